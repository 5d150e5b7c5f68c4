"""Locks on folders that end with the process that holds them.

A lock is the system's own (``flock``) on the folder itself: nothing is left behind, whatever becomes of its holder. File systems
without such locks, some network ones, let every writer through: there it is up to the user that only one writes at a time.
"""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["BusyError", "lock", "locked", "wait_for"]

_WITHOUT = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EINVAL}
"""How a file system says that it has no such locks."""

_PAUSE = 0.01


class BusyError(BlockingIOError):
    """Another process is writing to the folder."""


@contextmanager
def locked(folder: Path, *, patience: float = 1.0) -> Iterator[bool]:
    """Hold a folder against other writers; yield False where the file system has no locks.

    Parameters
    ----------
    folder
        An existing folder.
    patience
        Seconds to wait for another holder: enough for a reader that completes what a killed writer left.

    Raises
    ------
    BusyError
        If another process, or another thread of this one, still holds it then.
    OSError
        If the folder cannot be opened.
    """
    limit = time.monotonic() + patience
    while True:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            held = lock(handle)
            if held is None and time.monotonic() >= limit:
                raise BusyError(errno.EAGAIN, "another process is writing to this folder", str(folder))
            if held is not None and _is_at(handle, folder):
                yield held
                return
        finally:
            os.close(handle)
        time.sleep(_PAUSE)


def lock(handle: int) -> bool | None:
    """Lock an open file or folder without waiting: True if it is ours now, None if another holds it, False where there are no locks."""
    try:
        return _flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None


def wait_for(handle: int) -> bool:
    """Lock an open file, after all who hold it now; False where there are no locks."""
    return _flock(handle, fcntl.LOCK_EX)


def _flock(handle: int, operation: int) -> bool:
    try:
        fcntl.flock(handle, operation)
    except OSError as error:
        if error.errno in _WITHOUT:
            return False
        raise
    return True


def _is_at(handle: int, path: Path) -> bool:
    """Return False if the folder was removed or replaced between opening and locking it."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
