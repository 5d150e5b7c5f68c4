"""Which implementation runs: listed, forced by argument or environment, and remembered."""

import os
import threading
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from ..errors import NotSupportedError

__all__ = ["Implementation", "choose", "fma_peak", "implementations", "last_implementation", "native", "remember"]

VARIABLE = "TILEWRIGHT_KERNEL"


@dataclass(frozen=True)
class Implementation:
    """One way to compute every operation.

    Parameters
    ----------
    name
        ``avx512``, ``avx2``, ``generic`` or ``reference``.
    needs
        CPU features it needs, as the operating system names them.
    available
        True if this machine and this build can run it.
    reason
        Why it is not available; empty when it is.
    """

    name: str
    needs: tuple[str, ...]
    available: bool
    reason: str


@cache
def native() -> Any:
    """Return the compiled extension, or None where it was not built."""
    try:
        return import_module("tilewright.kernels._native")
    except ImportError:
        return None


@cache
def implementations() -> tuple[Implementation, ...]:
    """Return every implementation, best first; the last one is the definition in NumPy and runs everywhere.

    Examples
    --------
    >>> implementations()[-1].name
    'reference'
    """
    module = native()
    if module is None:
        missing = "the compiled extension is not installed"
        found = [Implementation(name, (), False, missing) for name in ("avx512", "avx2", "generic")]
    else:
        found = [_described(c) for c in module.candidates()]
    return (*found, Implementation("reference", (), True, ""))


def _described(candidate: dict[str, Any]) -> Implementation:
    needs = tuple(candidate["needs"].split())
    if candidate["available"]:
        return Implementation(candidate["name"], needs, True, "")
    reason = f"this CPU lacks one of {', '.join(needs)}" if candidate["built"] else "this build has no such code"
    return Implementation(candidate["name"], needs, False, reason)


def choose(asked: str | None) -> str:
    """Return the name of the implementation to run: the one asked for, else the environment's, else the best here.

    Raises
    ------
    NotSupportedError
        If the name is unknown, or what it names cannot run here.
    """
    name = asked or os.environ.get(VARIABLE)
    if not name:
        return _best()
    origin = "" if asked else f" (from the environment variable {VARIABLE})"
    for known in implementations():
        if known.name == name:
            if known.available:
                return name
            raise NotSupportedError(
                f"kernel implementation {name!r}{origin} cannot run here: {known.reason}; {_offer()}"
            )
    raise NotSupportedError(f"there is no kernel implementation {name!r}{origin}; {_offer()}")


@cache
def _best() -> str:
    best = next(known.name for known in implementations() if known.available)
    if best == "reference":
        # The definition is hundreds of times slower: fine when asked for, a trap when nobody did.
        raise NotSupportedError(
            "the compiled kernels are not installed; install tilewright with a C++20 compiler present "
            f"(pip install .), or ask for implementation='reference' or {VARIABLE}=reference"
        )
    return best


def _offer() -> str:
    return "available here: " + ", ".join(known.name for known in implementations() if known.available)


_last = threading.local()


def remember(name: str) -> None:
    """Record what ran last in this thread."""
    _last.name = name


def last_implementation() -> str | None:
    """Return the name of the implementation that the last kernel call of this thread ran, or None before the first."""
    name: str | None = getattr(_last, "name", None)
    return name


def fma_peak(seconds: float = 0.2, implementation: str | None = None) -> float:
    """Measure the most FLOP/s one core reaches on multiply-adds that never leave its registers, per second of its own time.

    Parameters
    ----------
    seconds
        How long to run.
    implementation
        Whose vector width to use; the best of this machine when None.
    """
    name = choose(implementation)
    if name == "reference":
        raise NotSupportedError("the reference implementation has no register loop; name one of the compiled ones")
    peak: float = native().fma_peak(name, seconds)
    return peak
