"""What the command prints: results on stdout, everything else on stderr."""

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
    """Print a report and return the exit code it asks for."""
    if as_json:
        emit_text(report.to_json())
    elif sys.stdout is not None and sys.stdout.isatty():
        _print_table(report)
    else:
        emit_text(str(report))
    return 0 if report.ok else NOT_OK


def emit_text(text: str) -> None:
    """Print to stdout; a reader that has gone away is no error.

    Raises
    ------
    LostOutput
        If the text cannot be written, such as to a full disk: a script must not take silence for a result.
    """
    with _writing():
        try:
            print(printable(text, keep="\n\t"), flush=True)
        except UnicodeEncodeError:  # a terminal that is not set to UTF-8
            print(text.encode("ascii", "replace").decode(), flush=True)


@contextmanager
def _writing() -> Iterator[None]:
    """Write to stdout inside."""
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
    """Let go of what stdout still holds: Python would complain again when it flushes at exit."""
    if sys.stdout is not None:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def flush_stdout() -> None:
    """Have what others printed leave now, or never: an error at exit would be told by Python, in its own way."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        drop_stdout()


def open_streams() -> None:
    """Give every standard stream that is closed a descriptor: the next file opened would take its number, and what is printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def emit_error(failure: Failure, *, as_json: bool) -> int:
    """Print one sentence to stderr, and one object to stdout where JSON was asked for; return the exit code."""
    message = failure.message
    if len(message) > _LONGEST_ERROR:
        message = f"{message[: _LONGEST_ERROR - 3]}..."
    if sys.stderr is not None:
        with suppress(OSError):  # whoever closed it does not want to hear
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
    """Send to stderr whatever libraries print to stdout meanwhile, be it from Python or from C."""
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
        ctypes.CDLL(None).fflush(None)  # what C code has buffered belongs to the stream it was sent to
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
