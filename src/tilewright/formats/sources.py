"""Where a checkpoint's files come from: a directory, mapped rather than read, or bytes in memory."""

import mmap
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError
from .text import LONGEST_TEXT

__all__ = ["Directory", "Memory", "Source"]


class Source(Protocol):
    """Files by name."""

    def has(self, name: str) -> bool:
        """Return True if there is such a file."""

    def data(self, name: str) -> NDArray[np.uint8]:
        """Return a file's bytes; raises `FormatError` if there is none."""

    def text(self, name: str) -> bytes:
        """Return the bytes of a short file; raises `FormatError` above `LONGEST_TEXT`."""

    def where(self, name: str) -> str:
        """Return how messages call a file."""

    def check_unchanged(self, *, replaced: bool = True) -> None:
        """Raise `FormatError` if a file that was read is no longer as it was then; `replaced`: nor if another took its name."""


class Directory:
    """Files of a directory, mapped into memory and read when touched.

    The mapping is private: writing to an array changes neither the file nor what others see. A file replaced by rename,
    as `write_checkpoint` does, stays intact for those who have mapped it. A file that is copied over or cut short in place does
    not: what was mapped then changes with it, or touching it ends the process (SIGBUS). `check_unchanged` notices what has
    happened so far; files that may be overwritten in place are better read into memory.

    Parameters
    ----------
    path
        The directory.
    mapped
        Whether to map files; otherwise they are read whole.
    """

    def __init__(self, path: Path, mapped: bool = True) -> None:
        self.path, self.mapped = path, mapped
        self._seen: dict[str, os.stat_result] = {}
        if not path.is_dir():
            what = "is a file" if path.exists() else "does not exist"
            raise FormatError(f"{path} {what}; a checkpoint is a directory with config.json and model.safetensors")

    def has(self, name: str) -> bool:
        """Return True if the directory has an entry of this name."""
        return os.path.lexists(self.path / name)

    def data(self, name: str) -> NDArray[np.uint8]:
        """Return a file's bytes as a private mapping."""
        path = self.path / name
        try:
            with open(path, "rb", opener=_opener) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise FormatError(
                        f"{path} is no regular file; a checkpoint consists of regular files or links to them"
                    )
                self._seen[name] = status
                if status.st_size == 0 or not self.mapped:
                    return np.fromfile(file, dtype=np.uint8)
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except OSError as error:
            raise FormatError(
                f"{path} cannot be read: {error.strerror or error}; check that the checkpoint is complete and yours to read"
            ) from error
        return np.frombuffer(mapped, dtype=np.uint8)

    def text(self, name: str) -> bytes:
        """Return a short file's bytes."""
        return _short(self.data(name), self.where(name))

    def where(self, name: str) -> str:
        """Return the file's path."""
        return str(self.path / name)

    def check_unchanged(self, *, replaced: bool = True) -> None:
        """Compare size, time and identity of every file read so far."""
        for name, before in self._seen.items():
            try:
                now = os.stat(self.path / name)
            except OSError:
                now = None
            same = now is not None and os.path.samestat(before, now)
            if (same and _times(before) == _times(now)) or (not same and not replaced):
                continue
            raise FormatError(
                f"{self.path / name} changed while it was read; load it again once whoever writes it has ended, and have files replaced "
                "by rename, as `save` does, not copied over in place"
            )


class Memory:
    """Files given as bytes."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files

    def has(self, name: str) -> bool:
        """Return True if there is such a file."""
        return name in self.files

    def data(self, name: str) -> NDArray[np.uint8]:
        """Return a file's bytes, read-only."""
        if name not in self.files:
            raise FormatError(f"{name} is missing; check that the checkpoint is complete")
        return np.frombuffer(self.files[name], dtype=np.uint8)

    def text(self, name: str) -> bytes:
        """Return a short file's bytes."""
        return _short(self.data(name), name)

    def where(self, name: str) -> str:
        """Return the file's name."""
        return name

    def check_unchanged(self, *, replaced: bool = True) -> None:
        """Bytes do not change."""


def _times(status: os.stat_result | None) -> tuple[int, int] | None:
    return None if status is None else (status.st_size, status.st_mtime_ns)


def _short(data: NDArray[np.uint8], where: str) -> bytes:
    if len(data) > LONGEST_TEXT:
        raise FormatError(f"{where}: {len(data)} bytes, and at most {LONGEST_TEXT} bytes of JSON are read")
    return data.tobytes()


def _opener(path: str, flags: int) -> int:
    """Open without waiting: a pipe in place of a file must not block the reader."""
    return os.open(path, flags | os.O_NONBLOCK)
