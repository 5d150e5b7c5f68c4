"""The results file of a sensitivity scan, from which an interrupted scan resumes.

The file holds JSON lines: the first identifies the scan, each of the others is one result. An incomplete last line, as a killed
process may leave it, is dropped when the file is read.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ...errors import ArgumentError, FormatError
from ...records import append_line, digest, write_whole
from ..tensors import local

__all__ = ["ScanLog", "fingerprint"]


def fingerprint(model: nn.Module) -> str:
    """Return a hash of the names, types, shapes and values of all parameters and buffers."""
    return digest({name: local(tensor) for name, tensor in (*model.named_parameters(), *model.named_buffers())})


class ScanLog:
    """Results by weight name and pattern text, also kept in a file if a path is given.

    Parameters
    ----------
    path
        Results file, created if missing; None keeps the results in memory only.
    key
        Values that identify the scan, by name. Numbers may differ slightly from those in the file, because losses are not the same to
        the last bit on every machine.

    Raises
    ------
    ArgumentError
        If the file belongs to another scan.
    FormatError
        If it is not the file of a scan.
    """

    def __init__(self, path: str | os.PathLike[str] | None, key: Mapping[str, Any]) -> None:
        self._path = None if path is None else Path(path)
        self._found: dict[tuple[str, str], dict[str, Any]] = {}
        if self._path is not None:
            self._open(self._path, dict(key))
        self.earlier = len(self._found)

    def get(self, name: str, pattern: str) -> dict[str, Any] | None:
        """Return the result of a weight at a pattern, or None if there is none yet."""
        return self._found.get((name, pattern))

    def put(self, name: str, pattern: str, **result: float) -> dict[str, Any]:
        """Store and return a result; it is in the file when this returns."""
        self._found[name, pattern] = dict(result)
        if self._path is not None:
            append_line(self._path, json.dumps({"name": name, "pattern": pattern, **result}))
        return self._found[name, pattern]

    def _open(self, path: Path, key: dict[str, Any]) -> None:
        try:
            # Anything after the last newline is incomplete.
            lines = path.read_text().split("\n")[:-1] if path.exists() else []
            entries = [json.loads(line) for line in lines]
            stored = entries[0]["scan"] if entries else key
            results = {(entry.pop("name"), entry.pop("pattern")): entry for entry in entries[1:]}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise FormatError(
                f"{path} is not the file of a sensitivity scan ({error}); use another path, or delete the file"
            ) from None
        different = [name for name in key if not _agree(stored.get(name), key[name])]
        if different:
            raise ArgumentError(
                f"{path} belongs to another scan: {different[0]} is {stored.get(different[0])} in the file and {key[different[0]]} here; "
                "use another path, or delete the file"
            )
        self._found = results
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, "".join(f"{line}\n" for line in (json.dumps({"scan": key}), *lines[1:])))


def _agree(value: object, other: object) -> bool:
    if isinstance(value, float) and isinstance(other, float):
        return math.isclose(value, other, rel_tol=1e-4, abs_tol=1e-9)
    return value == other
