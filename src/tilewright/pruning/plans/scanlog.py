"""The file a sensitivity scan keeps its results in, so that a scan cut short goes on where it stopped.

JSON lines: the first says what was scanned, each of the others is one result. A torn last line, which a killed process may leave, is
dropped when the file is read again.
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
    """Return a hash of all parameters and buffers: names, types, shapes and values."""
    return digest({name: local(tensor) for name, tensor in (*model.named_parameters(), *model.named_buffers())})


class ScanLog:
    """Results by weight name and pattern text; with a path, kept in a file as they come.

    Parameters
    ----------
    path
        The file, made if missing; None keeps results in memory only.
    key
        What is scanned. Numbers may differ a little, since losses are not the same to the last bit on every machine.

    Raises
    ------
    ArgumentError
        If the file is of another scan.
    FormatError
        If it is no file of a scan.
    """

    def __init__(self, path: str | os.PathLike[str] | None, key: Mapping[str, Any]) -> None:
        self._path = None if path is None else Path(path)
        self._found: dict[tuple[str, str], dict[str, Any]] = {}
        if self._path is not None:
            self._open(self._path, dict(key))
        self.earlier = len(self._found)

    def get(self, name: str, pattern: str) -> dict[str, Any] | None:
        """Return the result of a weight at a pattern, None if there is none yet."""
        return self._found.get((name, pattern))

    def put(self, name: str, pattern: str, **result: float) -> dict[str, Any]:
        """Keep a result; it is in the file when this returns."""
        self._found[name, pattern] = dict(result)
        if self._path is not None:
            append_line(self._path, json.dumps({"name": name, "pattern": pattern, **result}))
        return self._found[name, pattern]

    def _open(self, path: Path, key: dict[str, Any]) -> None:
        try:
            lines = path.read_text().split("\n")[:-1] if path.exists() else []  # what follows the last newline is torn
            entries = [json.loads(line) for line in lines]
            earlier = entries[0]["scan"] if entries else key
            found = {(entry.pop("name"), entry.pop("pattern")): entry for entry in entries[1:]}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise FormatError(
                f"{path} is not the file of a sensitivity scan ({error}); name another, or remove it"
            ) from None
        different = [name for name in key if not _agree(earlier.get(name), key[name])]
        if different:
            raise ArgumentError(
                f"{path} holds a scan with another {different[0]}: {earlier.get(different[0])} there, {key[different[0]]} here; "
                "name another file for this scan, or remove that one"
            )
        self._found = found
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, "".join(f"{line}\n" for line in (json.dumps({"scan": key}), *lines[1:])))


def _agree(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-9)
    return one == other
