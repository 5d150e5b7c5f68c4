"""Which implementation runs: the list, the choice by argument or environment, and which one ran last."""

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
    """An implementation of all operations.

    Parameters
    ----------
    name
        ``avx512``, ``avx2``, ``generic`` or ``reference``.
    needs
        Required CPU features, as named by the operating system.
    available
        True if this machine and this build can run it.
    reason
        Why it is not available; empty if it is.
    """

    name: str
    needs: tuple[str, ...]
    available: bool
    reason: str


@cache
def native() -> Any:
    """Return the compiled extension, or None if it was not built."""
    try:
        return import_module("tilewright.kernels._native")
    except ImportError:
        return None


@cache
def implementations() -> tuple[Implementation, ...]:
    """Return all implementations, best first; the last is the definition in NumPy, which runs everywhere.

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
    reason = f"this CPU lacks one of {', '.join(needs)}" if candidate["built"] else "it is not part of this build"
    return Implementation(candidate["name"], needs, False, reason)


def choose(asked: str | None) -> str:
    """Return the name of the implementation to run: the one requested, or that of the environment, or the best available.

    Raises
    ------
    NotSupportedError
        If the name is unknown, or the implementation cannot run here.
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
    raise NotSupportedError(f"unknown kernel implementation {name!r}{origin}; {_offer()}")


@cache
def _best() -> str:
    best = next(known.name for known in implementations() if known.available)
    if best == "reference":
        # The definition is hundreds of times slower: fine on request, a trap otherwise.
        raise NotSupportedError(
            "the compiled kernels are not installed; install tilewright with a C++20 compiler available "
            f"(pip install .), or pass implementation='reference' or set {VARIABLE}=reference"
        )
    return best


def _offer() -> str:
    return "available here: " + ", ".join(known.name for known in implementations() if known.available)


_last = threading.local()


def remember(name: str) -> None:
    """Record the implementation that ran last in this thread."""
    _last.name = name


def last_implementation() -> str | None:
    """Return the name of the implementation used by this thread's last kernel call, or None before the first call."""
    name: str | None = getattr(_last, "name", None)
    return name


def fma_peak(seconds: float = 0.2, implementation: str | None = None) -> float:
    """Measure the peak FLOP/s of one core on multiply-adds in registers, per second of CPU time.

    Parameters
    ----------
    seconds
        How long to run, in seconds. Default: 0.2.
    implementation
        The implementation whose vector width to use. Default: the best available.
    """
    name = choose(implementation)
    if name == "reference":
        raise NotSupportedError("the reference implementation has no register loop; pass a compiled implementation")
    peak: float = native().fma_peak(name, seconds)
    return peak
