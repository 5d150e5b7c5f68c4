"""Where a checkpoint's files come from: a memory-mapped directory, or bytes in memory."""

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
    """The files of a checkpoint, by name."""

    def has(self, name: str) -> bool:
        """Return True if the file exists."""

    def data(self, name: str) -> NDArray[np.uint8]:
        """Return a file's bytes; raises `FormatError` if it is missing."""

    def text(self, name: str) -> bytes:
        """Return the bytes of a short file; raises `FormatError` if it is longer than `LONGEST_TEXT`."""

    def where(self, name: str) -> str:
        """Return the name of a file for messages."""

    def check_unchanged(self, *, replaced: bool = True) -> None:
        """Raise `FormatError` if a file has changed since it was read or, with `replaced`, was replaced by another one."""


class Directory:
    """Files of a directory, memory-mapped and read on access.

    The mapping is private: writing to an array changes neither the file nor other mappings. If a file is replaced by rename, as
    `write_checkpoint` does, existing mappings stay intact. If it is overwritten or truncated in place, they change with it, or
    accessing them ends the process (SIGBUS). `check_unchanged` detects changes made so far; files that may be overwritten in
    place should be read into memory instead.

    Parameters
    ----------
    path
        The directory.
    mapped
        Whether to map the files instead of reading them into memory. Default: True.
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
                        f"{path} is not a regular file; a checkpoint consists of regular files or links to them"
                    )
                self._seen[name] = status
                if status.st_size == 0 or not self.mapped:
                    return np.fromfile(file, dtype=np.uint8)
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except OSError as error:
            raise FormatError(
                f"{path} cannot be read: {error.strerror or error}; check that the checkpoint is complete and that you may read it"
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
                f"{self.path / name} changed while it was read; load it again once its writer has finished, and replace files by rename, "
                "as `save` does, instead of overwriting them in place"
            )


class Memory:
    """Files given as bytes."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files

    def has(self, name: str) -> bool:
        """Return True if the file exists."""
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
        """Do nothing: bytes do not change."""


def _times(status: os.stat_result | None) -> tuple[int, int] | None:
    return None if status is None else (status.st_size, status.st_mtime_ns)


def _short(data: NDArray[np.uint8], where: str) -> bytes:
    if len(data) > LONGEST_TEXT:
        raise FormatError(f"{where}: {len(data)} bytes of JSON; at most {LONGEST_TEXT} are read")
    return data.tobytes()


def _opener(path: str, flags: int) -> int:
    """Open without blocking, in case the file is a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)
