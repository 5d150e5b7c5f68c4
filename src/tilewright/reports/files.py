"""Writing a file whole or not at all."""

import errno
import os
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(path: str | os.PathLike[str], text: str) -> None:
    """Write a text to a file; an earlier file of that name stays until the new one is complete.

    Raises
    ------
    OSError
        When the folder is missing or the file cannot be written; an earlier file of that name is then left as it was.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "No such folder to write a file to", str(target.parent))
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(target)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(name).unlink()
        raise


@cache
def _umask() -> int:
    """Return the permissions new files lack; mkstemp gives none to others, a report is meant to be shared."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
