"""`Progress`: the interface through which long-running work reports its progress."""

from typing import Protocol, runtime_checkable

__all__ = ["Progress", "SilentProgress"]


@runtime_checkable
class Progress(Protocol):
    """Receiver of progress reports. Calls come in order from one thread; implementations must not raise."""

    def stage(self, name: str) -> None:
        """Begin a named stage, which ends the previous one."""

    def step(self, done: int, total: int, note: str = "") -> None:
        """Report that `done` of `total` steps of the current stage are finished."""

    def say(self, text: str) -> None:
        """Report one line of text."""


class SilentProgress:
    """A `Progress` that ignores everything; the default of library calls."""

    def stage(self, name: str) -> None:
        """Do nothing."""

    def step(self, done: int, total: int, note: str = "") -> None:
        """Do nothing."""

    def say(self, text: str) -> None:
        """Do nothing."""
