"""The output of the command: results on stdout, everything else on stderr."""

import ctypes
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TYPE_CHECKING

from ..records import Report, cell, json_text, printable
from .faults import NOT_OK, Failure, LostOutput

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["drop_stdout", "emit", "emit_error", "emit_text", "flush_stdout", "open_streams", "stdout_kept_clean"]

_LONGEST_ERROR = 2000


def emit(report: Report, *, as_json: bool) -> int:
    """Print a report and return its exit code."""
    if as_json:
        emit_text(report.to_json())
    elif sys.stdout is not None and sys.stdout.isatty():
        _print_table(report)
    else:
        emit_text(str(report))
    return 0 if report.ok else NOT_OK


def emit_text(text: str) -> None:
    """Print to stdout; a closed pipe is not an error.

    Raises
    ------
    LostOutput
        If the text cannot be written, for example to a full disk: a script must not mistake missing output for success.
    """
    with _writing():
        try:
            print(printable(text, keep="\n\t"), flush=True)
        except UnicodeEncodeError:  # a terminal that is not set to UTF-8
            print(text.encode("ascii", "replace").decode(), flush=True)


@contextmanager
def _writing() -> Iterator[None]:
    """Turn errors of writing to stdout inside a `with` block into `LostOutput`."""
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, "it is closed")
        yield
    except BrokenPipeError:
        drop_stdout()
    except OSError as error:
        drop_stdout()
        raise LostOutput(
            error.errno, f"the result cannot be written to standard output: {error.strerror or error}"
        ) from None


def drop_stdout() -> None:
    """Discard what stdout has buffered, since Python would report the error again when it flushes at exit."""
    if sys.stdout is not None:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def flush_stdout() -> None:
    """Flush stdout, or discard its buffer on failure, since Python would report an error at exit in its own format."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        drop_stdout()


def open_streams() -> None:
    """Open every closed standard stream on the null device; otherwise the next file opened would take its number and its output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number


def emit_error(failure: Failure, *, as_json: bool) -> int:
    """Print one sentence to stderr and, with `as_json`, one object to stdout; return the exit code."""
    message = failure.message
    if len(message) > _LONGEST_ERROR:
        message = f"{message[: _LONGEST_ERROR - 3]}..."
    if sys.stderr is not None:
        with suppress(OSError):  # stderr may be a closed pipe
            print(f"tilewright: {printable(message)}", file=sys.stderr, flush=True)
    if as_json:
        body = {
            "kind": "error",
            "ok": False,
            "error": failure.kind,
            "message": message,
            "exit_code": failure.code,
        }
        with suppress(LostOutput):
            emit_text(json_text(body))
    return failure.code


@contextmanager
def stdout_kept_clean() -> Iterator[None]:
    """Redirect to stderr whatever libraries print to stdout inside a `with` block, from Python or from C."""
    try:
        saved = os.dup(1)
    except OSError:  # started with stdout closed
        yield
        return
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
        os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        ctypes.CDLL(None).fflush(None)  # output that C code has buffered must go to stderr too
        os.dup2(saved, 1)
        os.close(saved)


def _print_table(report: Report) -> None:
    from rich.console import Console

    with _writing():
        _print_to(Console(highlight=False, markup=False, emoji=False), report)


def _print_to(console: "Console", report: Report) -> None:
    if report.rows:
        console.print(_table(report))
    for key, value in report.summary.items():
        console.print(f"{key}: {cell(value)}")


def _table(report: Report) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for key, value in report.rows[0].items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        table.add_column(key, justify="right" if number else "left", overflow="fold")
    for row in report.rows:
        table.add_row(*(Text(cell(value)) for value in row.values()))
    return table
