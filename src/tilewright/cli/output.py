"""What the command prints: results on stdout, everything else on stderr."""

import ctypes
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TYPE_CHECKING

from ..report import Report, cell
from .faults import NOT_OK, Failure

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["emit", "emit_error", "emit_text", "stdout_kept_clean"]

# Names of layers come from files somebody else wrote; control characters in them must not reach a terminal.
_CONTROL = {code: "?" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def emit(report: Report, *, as_json: bool) -> int:
    """Print a report and return the exit code it asks for."""
    if as_json:
        emit_text(report.to_json())
    elif sys.stdout.isatty():
        _print_table(report)
    else:
        emit_text(str(report))
    return 0 if report.ok else NOT_OK


def emit_text(text: str) -> None:
    """Print to stdout; a reader that has gone away is no error."""
    try:
        print(text.translate(_CONTROL), flush=True)
    except BrokenPipeError:
        # Python would complain again when it flushes at exit.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def emit_error(failure: Failure, *, as_json: bool) -> int:
    """Print one sentence to stderr, and one object to stdout where JSON was asked for; return the exit code."""
    print(f"tilewright: {failure.message}".translate(_CONTROL), file=sys.stderr, flush=True)
    if as_json:
        body = {
            "kind": "error",
            "ok": False,
            "error": failure.kind,
            "message": failure.message,
            "exit_code": failure.code,
        }
        emit_text(json.dumps(body))
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

    console = Console(highlight=False, markup=False, emoji=False)
    if report.rows:
        console.print(_table(report))
    for key, value in report.summary.items():
        console.print(f"{key}: {cell(value)}".translate(_CONTROL))


def _table(report: Report) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for key, value in report.rows[0].items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        table.add_column(key, justify="right" if number else "left", overflow="fold")
    for row in report.rows:
        table.add_row(*(Text(cell(value).translate(_CONTROL)) for value in row.values()))
    return table
