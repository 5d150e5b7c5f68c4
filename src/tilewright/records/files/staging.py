"""Staging folders, in which files are written before they are moved into place; those of dead processes are removed later."""

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .locks import lock

__all__ = ["clear", "flush", "staging"]


@contextmanager
def staging(directory: Path, prefix: str) -> Iterator[Path]:
    """Yield an empty folder inside `directory`, locked while in use and removed afterwards."""
    folder, handle = _create_locked(directory, prefix)
    try:
        yield folder
    finally:
        _remove(folder)
        os.close(handle)


def _create_locked(directory: Path, prefix: str) -> tuple[Path, int]:
    """Create a folder and lock it; return it with the handle that holds the lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=directory))
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except BaseException:
            _remove(folder)
            raise
        if lock(handle) is not None and folder.exists():
            return folder, handle
        os.close(handle)  # before it was locked, another process took it for a dead process's folder


def clear(directory: Path, prefix: str) -> None:
    """Remove the staging folders of dead processes, as far as locks are supported and permissions allow."""
    for entry in os.scandir(directory):
        if not entry.name.startswith(prefix) or not entry.is_dir(follow_symlinks=False):
            continue
        try:
            handle = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:  # belongs to another user, or is already gone
            continue
        try:
            if lock(handle):
                shutil.rmtree(entry.path, ignore_errors=True)
        finally:
            os.close(handle)


def flush(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some file systems cannot flush a folder; they keep its entries consistent anyway.
        if error.errno != errno.EINVAL or not stat.S_ISDIR(os.fstat(handle).st_mode):
            raise
    finally:
        os.close(handle)


def _remove(folder: Path) -> None:
    """Remove a folder, even if Ctrl-C is pressed a second time."""
    try:
        shutil.rmtree(folder)
    except BaseException as error:
        with suppress(OSError):
            shutil.rmtree(folder, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
