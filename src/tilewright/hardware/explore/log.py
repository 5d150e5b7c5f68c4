"""The result file of a sweep: JSON lines by content hash, written as results arrive, so that no design runs twice."""

import json
import os
from pathlib import Path
from typing import Any

from ...errors import FormatError
from ...records import append_line

__all__ = ["SweepLog"]


class SweepLog:
    """Results by key, including those that the file already holds.

    Several sweeps may share a file: each line is one write under a lock. An incomplete last line, as left by a killed
    process, is ignored.

    Parameters
    ----------
    path
        The file, created if missing; None keeps results in memory only.

    Raises
    ------
    FormatError
        If the file is not the log of a sweep; it is left unchanged.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self._path = None if path is None else Path(path)
        self._results: dict[str, dict[str, Any]] = {}
        if self._path is not None and self._path.exists():
            for number, line in enumerate(self._path.read_bytes().split(b"\n")[:-1], 1):
                try:
                    entry = json.loads(line)
                    self._results.setdefault(entry["key"], dict(entry["result"]))
                except (ValueError, TypeError, KeyError) as error:
                    raise FormatError(
                        f"{self._path}: line {number} is not a result of a sweep ({error}); pass another file"
                    ) from None

    def __contains__(self, key: str) -> bool:
        return key in self._results

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self._results[key]

    def __len__(self) -> int:
        return len(self._results)

    def put(self, key: str, result: dict[str, Any]) -> None:
        """Store the result of a key unless it has one; it is in the file when this returns."""
        if key in self._results:
            return
        self._results[key] = result
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            append_line(self._path, json.dumps({"key": key, "result": result}))
