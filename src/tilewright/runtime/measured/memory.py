"""The file of earlier measurements, one per line: the last line for a key counts, and concurrent writers lose nothing.

It is stored in ``$TILEWRIGHT_CACHE`` (by default ``~/.cache/tilewright``) and only saves time: unreadable entries are
ignored, and entries that cannot be written are measured again next time.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...records import append_line

__all__ = ["Choice", "Memory"]

_LARGEST = 16 << 20
"""Maximum size of the file in bytes; a line takes about 500. Larger files are ignored."""

_TYPES: dict[str, type] = {"key": str, "sparse": bool, "kernel": str, "threads": int, "confirmed": bool}


@dataclass(frozen=True)
class Choice:
    """The measured choice between sparse and dense for a layer or a whole model.

    Parameters
    ----------
    sparse
        True if the packed form runs.
    ratios
        Dense time over sparse time by number of tokens; above 1 the packed form is faster.
    kernel
        Implementation that was measured.
    threads
        Number of threads used.
    kept
        False if the machine was busy, in which case the result is used in this process only. Default: True.
    confirmed
        True if an implausible ratio was confirmed by a second measurement. Default: False.
    layer
        Description from which a layer of the same speed can be built; see `tilewright.runtime.measured.again`. None for a whole
        model.
    """

    sparse: bool
    ratios: dict[int, float]
    kernel: str
    threads: int
    kept: bool = True
    confirmed: bool = False
    layer: Mapping[str, Any] | None = None

    @property
    def reason(self) -> str:
        """The result as a phrase for the user."""
        measured = ", ".join(f"{ratio:.2f}x dense at {n} token{'s' * (n > 1)}" for n, ratio in self.ratios.items())
        busy = "" if self.kept else "; the machine was busy, so this is not kept"
        form = "sparse" if self.sparse else "dense"
        return f"{form}: measured {measured} ({self.threads} thread{'s' * (self.threads > 1)}){busy}"


class Memory:
    """Remembered choices by key."""

    def __init__(self) -> None:
        home = (
            os.environ.get("TILEWRIGHT_CACHE")
            or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tilewright"
        )
        self._path = Path(home) / "choices.jsonl"
        self._choices = dict(_read(self._path))

    def get(self, key: str) -> Choice | None:
        """Return the remembered choice, or None."""
        return self._choices.get(key)

    def items(self) -> Mapping[str, Choice]:
        """Return all remembered choices by key."""
        return dict(self._choices)

    def put(self, key: str, choice: Choice) -> None:
        """Remember a choice in this process and, if it is to be kept, on disk."""
        self._choices[key] = choice
        if not choice.kept:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            append_line(self._path, json.dumps({"key": key, **asdict(choice)}))
        except OSError:
            return  # a full or read-only disk only costs time


def _read(path: Path) -> Iterator[tuple[str, Choice]]:
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return
        lines = path.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        entry = _entry(line)
        if entry is not None:
            yield entry


def _entry(line: bytes) -> tuple[str, Choice] | None:
    """Return the key and choice of a line; None if the line is incomplete or invalid."""
    try:
        body = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict) or not isinstance(body.get("ratios"), dict) or not body["ratios"]:
        return None
    if any(type(body.get(name)) is not kind for name, kind in _TYPES.items()):
        return None
    ratios = {}
    for count, ratio in body["ratios"].items():
        plausible = isinstance(ratio, int | float) and not isinstance(ratio, bool) and 0 < ratio < 1e6
        if not plausible or not re.fullmatch(r"[1-9][0-9]{0,9}", str(count)):
            return None
        ratios[int(count)] = float(ratio)
    layer = body.get("layer")
    if not isinstance(layer, dict | None) or (layer is not None and body["sparse"] != (min(ratios.values()) >= 1.0)):
        return None
    choice = Choice(body["sparse"], ratios, body["kernel"], body["threads"], True, body["confirmed"], layer)
    return body["key"], choice
