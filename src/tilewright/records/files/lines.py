"""Append-only files of JSON lines."""

import errno
import json
import os
import stat

from .locks import wait_for

__all__ = ["append_line"]


def append_line(path: str | os.PathLike[str], line: str) -> None:
    """Append a JSON object as one line; it is on disk when this returns.

    Processes that write at the same time never mix their lines. A run killed while writing leaves at most one incomplete
    last line, which readers skip and the next writer removes; a last line that only lacks its newline is completed. If the
    line cannot be written completely, the file is restored.

    Parameters
    ----------
    path
        The file, created if missing. Its folder must exist.
    line
        A JSON object, without a newline.

    Raises
    ------
    OSError
        When the file cannot be opened, does not end in a line of JSON, or the disk is full.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = pathlib.Path(folder) / "log.jsonl"
    ...     _ = log.write_text('{"a": 1}\\n{"a": 2, "b')
    ...     append_line(log, '{"a": 3}')
    ...     log.read_text()
    '{"a": 1}\\n{"a": 3}\\n'
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file", os.fspath(path))
        wait_for(handle)
        size = _repair_tail(handle, os.fspath(path))
        try:
            _write(handle, line.encode() + b"\n")
            os.fsync(handle)
        except BaseException:
            os.ftruncate(handle, size)
            raise
    finally:
        os.close(handle)


def _repair_tail(handle: int, path: str) -> int:
    """Make the file end with a complete line and return its size: drop an incomplete last line, add a missing newline."""
    size = os.fstat(handle).st_size
    if size == 0 or os.pread(handle, 1, size - 1) == b"\n":
        return size
    content = os.pread(handle, size, 0)
    start = content.rfind(b"\n") + 1
    tail = content[start:]
    if not tail.lstrip().startswith(b"{"):
        raise OSError(errno.EINVAL, "Not a file of JSON lines; left unchanged", path)
    try:
        json.loads(tail)
    except (ValueError, RecursionError):
        os.ftruncate(handle, start)
        return start
    _write(handle, b"\n")
    return size + 1


def _write(handle: int, data: bytes) -> None:
    """Write all of `data`. A disk that fills up accepts the part that fits, and the next write raises the reason."""
    while data:
        data = data[os.write(handle, data) :]
