"""Locks on folders, released by the system when the process that holds them ends.

A lock is a ``flock`` on the folder itself, so nothing is left behind if its holder dies. Some network file systems have no such
locks and let every writer through; there it is up to the user that only one process writes at a time.
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
"""Errors by which a file system reports that it has no locks."""

_PAUSE = 0.01


class BusyError(BlockingIOError):
    """Another process is writing to the folder."""


@contextmanager
def locked(folder: Path, *, patience: float = 1.0) -> Iterator[bool]:
    """Lock a folder against other writers; yield False if the file system has no locks.

    Parameters
    ----------
    folder
        An existing folder.
    patience
        Seconds to wait for another holder. The default is enough for a reader that completes a killed writer's work.

    Raises
    ------
    BusyError
        If another process, or another thread of this one, still holds the lock after that time.
    OSError
        If the folder cannot be opened.
    """
    limit = time.monotonic() + patience
    while True:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            exclusive = lock(handle)
            if exclusive is None and time.monotonic() >= limit:
                raise BusyError(errno.EAGAIN, "another process is writing to this folder", str(folder))
            if exclusive is not None and _is_at(handle, folder):
                yield exclusive
                return
        finally:
            os.close(handle)
        time.sleep(_PAUSE)


def lock(handle: int) -> bool | None:
    """Lock an open file or folder without waiting: True on success, None if it is held elsewhere, False without lock support."""
    try:
        return _flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None


def wait_for(handle: int) -> bool:
    """Lock an open file, waiting for current holders; return False if the file system has no locks."""
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
