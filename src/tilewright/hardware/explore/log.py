"""The file a sweep keeps its results in: JSON lines by content hash, written as they come, so that nothing is run twice."""

import json
import os
from pathlib import Path
from typing import Any

from ...errors import FormatError
from ...records import append_line

__all__ = ["SweepLog"]


class SweepLog:
    """Results by key; with a path, those of earlier runs too.

    Several sweeps may share a file: a line is one write under a lock. A torn last line, which a killed process may leave, is dropped.

    Parameters
    ----------
    path
        The file, made if missing; None keeps results in memory only.

    Raises
    ------
    FormatError
        If it is no file of a sweep; it is left as it is.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self._path = None if path is None else Path(path)
        self._found: dict[str, dict[str, Any]] = {}
        if self._path is not None and self._path.exists():
            for number, line in enumerate(self._path.read_bytes().split(b"\n")[:-1], 1):
                try:
                    entry = json.loads(line)
                    self._found.setdefault(entry["key"], dict(entry["result"]))
                except (ValueError, TypeError, KeyError) as error:
                    raise FormatError(
                        f"{self._path}: line {number} is no result of a sweep ({error}); name another file"
                    ) from None

    def __contains__(self, key: str) -> bool:
        return key in self._found

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self._found[key]

    def __len__(self) -> int:
        return len(self._found)

    def put(self, key: str, result: dict[str, Any]) -> None:
        """Keep a result, the first one of its key; it is in the file when this returns."""
        if key in self._found:
            return
        self._found[key] = result
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            append_line(self._path, json.dumps({"key": key, "result": result}))
