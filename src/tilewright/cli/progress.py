"""Progress on stderr: bars on a terminal, plain lines elsewhere."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from ..records import Progress, SilentProgress, printable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["PlainProgress", "TerminalProgress", "progress"]

_SECONDS_BETWEEN_LINES = 5.0


class PlainProgress:
    """Plain lines for a log file: one per stage, and one every few seconds within a stage.

    Parameters
    ----------
    stream
        Stream to write to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._started = self._told = time.monotonic()

    def stage(self, name: str) -> None:
        """Write a line for a new stage."""
        self._started = self._told = time.monotonic()
        self._write(name)

    def step(self, done: int, total: int, note: str = "") -> None:
        """Write a line for a step, if the last line is a few seconds old or this is the last step."""
        now = time.monotonic()
        if done < total and now - self._told < _SECONDS_BETWEEN_LINES:
            return
        self._told = now
        left = f"{(now - self._started) / done * (total - done):.0f} s left" if 0 < done < total else ""
        self._write("  " + ", ".join(part for part in (f"{done}/{total}", note, left) if part))

    def say(self, text: str) -> None:
        """Write a line."""
        self._write(text)

    def _write(self, text: str) -> None:
        with suppress(OSError):  # a log on a full disk must not stop the work
            print(printable(text), file=self._stream, flush=True)


class TerminalProgress:
    """Live bars, one per stage; use it as a context manager.

    Parameters
    ----------
    console
        Terminal to draw on. Default: stderr.
    """

    def __init__(self, console: "Console | None" = None) -> None:
        from rich import progress as bars
        from rich.console import Console

        self._console = console or Console(stderr=True)
        self._bars = bars.Progress(
            bars.SpinnerColumn(finished_text="\N{CHECK MARK}"),
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(bar_width=28),
            bars.MofNCompleteColumn(),
            bars.TimeElapsedColumn(),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
        )
        self._task: bars.TaskID | None = None

    def __enter__(self) -> "TerminalProgress":
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self._finish()
        self._bars.stop()

    def stage(self, name: str) -> None:
        """Finish the previous bar and start a new one."""
        self._finish()
        self._task = self._bars.add_task(name, total=None, note="")

    def step(self, done: int, total: int, note: str = "") -> None:
        """Advance the bar."""
        if self._task is None:
            self.stage("working")
        assert self._task is not None
        self._bars.update(self._task, completed=done, total=total, note=note)

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self._console.print(printable(text), markup=False, highlight=False)

    def _finish(self) -> None:
        if self._task is None:
            return
        total = self._bars.tasks[self._task].total
        self._bars.update(self._task, completed=total or 1, total=total or 1)
        self._task = None


@contextmanager
def progress(quiet: bool) -> Iterator[Progress]:
    """Yield a progress display that suits stderr, and forward the package's log messages to it."""
    if quiet or sys.stderr is None:
        yield SilentProgress()
    elif sys.stderr.isatty():
        with TerminalProgress() as live, _logged(live):
            yield live
    else:
        plain = PlainProgress(sys.stderr)
        with _logged(plain):
            yield plain


class _Telling(logging.Handler):
    def __init__(self, told: Progress) -> None:
        super().__init__(logging.INFO)
        self._told = told

    def emit(self, record: logging.LogRecord) -> None:
        self._told.say(record.getMessage())


@contextmanager
def _logged(told: Progress) -> Iterator[None]:
    logger, handler = logging.getLogger("tilewright"), _Telling(told)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
