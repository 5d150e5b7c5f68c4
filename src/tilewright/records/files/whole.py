"""Atomic files: written completely or not at all."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .staging import clear, flush, staging

__all__ = ["replacing", "write_whole"]

_PREFIX = ".tilewright-part-"


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the path of a new file, which replaces `path` when the block ends.

    At any time, even after a kill or a power cut, `path` is either the old file or the new one. Links are followed.

    Parameters
    ----------
    path
        The file; its folder must exist. The path yielded has the same name, in another folder of the same file system.

    Raises
    ------
    OSError
        When the folder is missing, `path` is not a file, or the file cannot be written; an existing file is then unchanged.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "a.txt") as new:
    ...         _ = new.write_text("whole")
    ...     print((Path(folder) / "a.txt").read_text(), os.listdir(folder))
    whole ['a.txt']
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "The folder to write to does not exist", str(target.parent))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "Not a regular file", str(target))
    clear(target.parent, _PREFIX)
    with staging(target.parent, _PREFIX) as folder:
        new = folder / target.name
        yield new
        flush(new)
        os.replace(new, target)
        flush(target.parent)


def write_whole(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write text (as UTF-8) or bytes to a file atomically; raises the errors of `replacing`."""
    data = content.encode() if isinstance(content, str) else content
    with replacing(path) as new:
        new.write_bytes(data)
