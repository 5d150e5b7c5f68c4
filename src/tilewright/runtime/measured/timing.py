"""Timing two forms of a layer as a network runs them: weights cold, in turns until stable, and never while the machine is busy.

A network reads all its weights before it comes back to the first, so a layer's weight comes from memory or the last cache at every
call. One weight timed again and again comes from the caches next to the core instead, which favours whichever form is larger: 2:4 at
one token looks ten times slower than dense that way, and is faster in truth.
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
"""Rounds of dense and sparse in turn."""

_CALM = 3
"""Rounds without a new best, after which a form is taken to be stable."""

_SECONDS = 1.0
"""After which a measurement ends, stable or not, once it has the least rounds."""

_ROUND = 2e-3
"""Seconds a round lasts at least: shorter ones are shorter than what a clock or a scheduler disturbs."""

_COPIES = 128
_TRIES = 3

_SPREAD = 1.3
_OTHERS = 0.2
"""A machine is busy if rounds take this many times the best at the median, or if other processes take this share of a core."""


@dataclass(frozen=True)
class Timing:
    """What was measured.

    Parameters
    ----------
    dense, sparse
        Seconds of one call of each form, the best of all rounds: noise only ever adds time.
    quiet
        False if something else was running, so that the figures should not be kept.
    """

    dense: float
    sparse: float
    quiet: bool

    @property
    def ratio(self) -> float:
        """Dense time over sparse time: above 1, sparse is faster."""
        return self.dense / self.sparse


def timings(dense: nn.Module, sparse: nn.Module, inputs: Sequence[torch.Tensor]) -> list[Timing]:
    """Return the times of both forms of a layer on each input ``[M, K]``, its weights as cold as in a model.

    Copies of the layer run in turn that together exceed the last cache. (Of a layer so small that more than 128 would be needed, as
    many: a model of such layers is small itself.) On a busy machine a measurement is tried again, up to three times.

    Raises
    ------
    CheckFailed
        If the two forms do not give the same.
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
    """Time two functions in turn until neither gets faster; each returns how many calls it made."""
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
    """Return the seconds a call takes in one round."""
    calls, start = 0, time.perf_counter()
    while True:
        calls += function()
        passed = time.perf_counter() - start
        if passed >= _ROUND:
            return passed / calls


def _stable(times: Sequence[float]) -> bool:
    """Return True if the last rounds brought no better time than those before, by more than one in a hundred."""
    return min(times[-_CALM:]) > 0.99 * min(times[:-_CALM])


def _check(dense: nn.Module, sparse: nn.Module, x: torch.Tensor) -> None:
    with torch.inference_mode():
        expected, result = dense(x), sparse(x)
    limit = 1e-3 if x.dtype == torch.float32 else 0.05
    if not torch.allclose(expected, result, atol=limit * float(expected.abs().max()), rtol=limit):
        raise CheckFailed(
            f"{sparse} differs by {float((expected - result).abs().max()):.3g} from its dense form on this machine; its speed is "
            "not measured. Run the tests of the kernels here, and load with TILEWRIGHT_KERNEL=generic until they pass"
        )


@cache
def last_cache_bytes() -> int:
    """Return the size of the last cache, 32 MiB where the system does not say."""
    sizes = []
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text().strip()
        unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
        sizes.append(int(text.rstrip("KMG")) * unit)
    # A virtual machine may be told the cache of a whole socket, of which it has a share.
    return min(max(sizes, default=32 << 20), 128 << 20)


class _Clock:
    """How long it has been, and how much of that the processors worked for others."""

    def __init__(self) -> None:
        self._start, self._own, self._all = time.perf_counter(), time.process_time(), _worked()

    def wall(self) -> float:
        return time.perf_counter() - self._start

    def others(self) -> float:
        """Return the share of one core that other processes took; 0 where the system does not say."""
        worked = _worked()
        if worked is None or self._all is None:
            return 0.0
        own = time.process_time() - self._own
        resolution = (
            2 * (os.cpu_count() or 1) / os.sysconf("SC_CLK_TCK")
        )  # seconds; each processor counts in whole ticks
        return max(0.0, worked - self._all - own - resolution) / self.wall()


def _worked() -> float | None:
    """Return the seconds all processors have worked, or waited for a hypervisor, since they started."""
    try:
        first = Path("/proc/stat").read_text().split("\n", 1)[0].split()
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, first[1:9])
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
