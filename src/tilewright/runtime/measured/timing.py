"""Timing two forms of a layer as a network runs them: with cold weights, in turns until stable, and not on a busy machine.

A network reads all its weights before it returns to the first, so each call reads a layer's weight from memory or the
last-level cache. A weight timed over and over comes from the caches close to the core instead, which favours the larger
form: that way 2:4 at one token looks ten times slower than dense, although it is faster.
"""

import copy
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median

import torch
from torch import nn

from ...errors import CheckFailed

__all__ = ["Timing", "in_turns", "last_cache_bytes", "timings"]

_LEAST, _MOST = 6, 60
"""Minimum and maximum number of rounds, each of dense and sparse in turn."""

_CALM = 3
"""Number of rounds without a new best time after which a form counts as stable."""

_SECONDS = 1.0
"""Seconds after which a measurement ends, stable or not, once it has the minimum number of rounds."""

_ROUND = 2e-3
"""Minimum seconds of a round: clocks and schedulers would disturb shorter ones too much."""

_COPIES = 128
_TRIES = 3

_SPREAD = 1.3
"""The machine counts as busy if the median round takes this many times the best."""

_OTHERS = 0.2
"""The machine counts as busy if other processes take this share of a core."""


@dataclass(frozen=True)
class Timing:
    """Times of the dense and the sparse form.

    Parameters
    ----------
    dense, sparse
        Seconds per call of each form, the best of all rounds, since noise only ever adds time.
    quiet
        False if the machine was busy, so that the times should not be kept.
    """

    dense: float
    sparse: float
    quiet: bool

    @property
    def ratio(self) -> float:
        """Dense time over sparse time; above 1, sparse is faster."""
        return self.dense / self.sparse


def timings(dense: nn.Module, sparse: nn.Module, inputs: Sequence[torch.Tensor]) -> list[Timing]:
    """Return the times of both forms of a layer on each input ``[M, K]``, with weights as cold as in a model.

    Enough copies of the layer run in turn to exceed the last-level cache, but at most 128: a model of layers small enough
    to need more is small itself. On a busy machine a measurement is tried up to three times.

    Raises
    ------
    CheckFailed
        If the results of the two forms differ.
    """
    for x in inputs:
        _check(dense, sparse, x)
    weight = sum(parameter.nbytes for parameter in dense.parameters())
    copies = min(max(2, -(-2 * last_cache_bytes() // max(weight, 1))), _COPIES)
    forms = [[copy.deepcopy(form) for _ in range(copies)] for form in (dense, sparse)]
    results = []
    with torch.inference_mode():
        for x in inputs:
            for _ in range(_TRIES):
                result = in_turns(*(_caller(form, x) for form in forms))
                if result.quiet:
                    break
            results.append(result)
    return results


def in_turns(dense: Callable[[], int], sparse: Callable[[], int]) -> Timing:
    """Time two functions in turn until neither gets faster; each must return the number of calls it made."""
    rounds: tuple[list[float], list[float]] = ([], [])
    clock = _Clock()
    for function in (dense, sparse):
        function()  # first calls check indices and allocate
    for number in range(_MOST):
        for which in (0, 1) if number % 2 else (1, 0):
            rounds[which].append(_seconds((dense, sparse)[which]))
        if number + 1 >= _LEAST and (all(map(_stable, rounds)) or clock.wall() > _SECONDS):
            break
    spread = max(median(times) / min(times) for times in rounds)
    return Timing(min(rounds[0]), min(rounds[1]), spread < _SPREAD and clock.others() < _OTHERS)


def _caller(forms: Sequence[nn.Module], x: torch.Tensor) -> Callable[[], int]:
    def call() -> int:
        for form in forms:
            form(x)
        return len(forms)

    return call


def _seconds(function: Callable[[], int]) -> float:
    """Return the seconds per call in one round."""
    calls, start = 0, time.perf_counter()
    while True:
        calls += function()
        passed = time.perf_counter() - start
        if passed >= _ROUND:
            return passed / calls


def _stable(times: Sequence[float]) -> bool:
    """Return True if the last rounds were no more than 1% better than those before."""
    return min(times[-_CALM:]) > 0.99 * min(times[:-_CALM])


def _check(dense: nn.Module, sparse: nn.Module, x: torch.Tensor) -> None:
    with torch.inference_mode():
        expected, result = dense(x), sparse(x)
    limit = 1e-3 if x.dtype == torch.float32 else 0.05
    if not torch.allclose(expected, result, atol=limit * float(expected.abs().max()), rtol=limit):
        raise CheckFailed(
            f"{sparse} differs by {float((expected - result).abs().max()):.3g} from its dense form on this machine; its speed is "
            "not measured. Run the kernel tests on this machine, and load with TILEWRIGHT_KERNEL=generic until they pass"
        )


@cache
def last_cache_bytes() -> int:
    """Return the size of the last-level cache in bytes; 32 MiB if the system does not report it."""
    sizes = []
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text().strip()
        unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
        sizes.append(int(text.rstrip("KMG")) * unit)
    # A virtual machine may report the cache of a whole socket, of which it has only a share.
    return min(max(sizes, default=32 << 20), 128 << 20)


class _Clock:
    """Measures the time since its creation, and how much of it the processors spent on other processes."""

    def __init__(self) -> None:
        self._start, self._own, self._all = time.perf_counter(), time.process_time(), _worked()

    def wall(self) -> float:
        return time.perf_counter() - self._start

    def others(self) -> float:
        """Return the share of one core that other processes took; 0 if the system does not report it."""
        worked = _worked()
        if worked is None or self._all is None:
            return 0.0
        own = time.process_time() - self._own
        resolution = (
            2 * (os.cpu_count() or 1) / os.sysconf("SC_CLK_TCK")
        )  # in seconds; each processor counts whole ticks
        return max(0.0, worked - self._all - own - resolution) / self.wall()


def _worked() -> float | None:
    """Return the seconds that all processors together have worked, or waited for a hypervisor, since boot."""
    try:
        first = Path("/proc/stat").read_text().split("\n", 1)[0].split()
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, first[1:9])
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
