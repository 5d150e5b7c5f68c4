"""How long work tells where it stands, without knowing who listens."""

from typing import Protocol, runtime_checkable

__all__ = ["Progress", "SilentProgress"]


@runtime_checkable
class Progress(Protocol):
    """Receiver of progress. Calls come from one thread, in order; none may raise."""

    def stage(self, name: str) -> None:
        """Begin a named stage; the one before it is done."""

    def step(self, done: int, total: int, note: str = "") -> None:
        """Tell that `done` of `total` steps of the current stage are finished."""

    def say(self, text: str) -> None:
        """Tell one fact worth a line."""


class SilentProgress:
    """A `Progress` that drops everything: the default of library calls."""

    def stage(self, name: str) -> None:
        """Drop it."""

    def step(self, done: int, total: int, note: str = "") -> None:
        """Drop it."""

    def say(self, text: str) -> None:
        """Drop it."""
