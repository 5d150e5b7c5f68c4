"""Writing a file whole or not at all."""

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
    """Yield the path of a new file; what the block writes there takes the place of `path` when the block ends.

    At any instant, a kill or a power cut included, `path` is the earlier file or the new one. A link is followed.

    Parameters
    ----------
    path
        The file; its folder must exist. The path yielded has the same name, in another folder of the same file system.

    Raises
    ------
    OSError
        When the folder is missing, `path` is something other than a file, or the file cannot be written; an earlier file is then as
        it was.

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
        raise FileNotFoundError(errno.ENOENT, "No such folder to write a file to", str(target.parent))
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
    """Write a text (as UTF-8) or bytes to a file, as `replacing` does: same errors."""
    data = content.encode() if isinstance(content, str) else content
    with replacing(path) as new:
        new.write_bytes(data)
