"""How long layers and whole networks take on a target: a machine that is a model, or this machine, measured."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from ..graph import evaluating
from ..hardware import ENGINES, AcceleratorSpec, Operation, WeightView, Workload, simulate
from ..patterns import Pattern
from ..pruning import prunable
from ..runtime import measured_costs
from .layers import Layer

__all__ = ["Clock", "CpuClock", "Latency", "ModelClock"]

_DENSE = "dense"


@dataclass(frozen=True)
class Latency:
    """Seconds of a call, and the interval they are likely to be in."""

    seconds: float
    low: float
    high: float


class Clock(Protocol):
    """Tells the time of one layer, and of the whole with some of its weights pruned."""

    def layer(self, layer: Layer, pattern: Pattern | None) -> float:
        """Return the seconds of all uses of a weight in a call; None for dense."""

    def network(self, chosen: Mapping[str, Pattern], *, interval: bool = False) -> Latency:
        """Return the seconds of a call."""


class ModelClock:
    """A machine of `tilewright.hardware.machine.presets`, at the analytical level; every weight of a pattern counts as evenly pruned.

    Parameters
    ----------
    spec, dtype
        The machine, and the type of weights and activations.
    net, owners, samples
        What one chip runs, whose weight each operation uses, and the samples of the whole batch.
    """

    def __init__(
        self, spec: AcceleratorSpec, dtype: str, net: Workload, owners: Mapping[str, str], samples: int
    ) -> None:
        self._spec, self._dtype, self._net, self._owners, self._samples = spec, dtype, net, owners, samples
        self._known: dict[tuple[object, ...], float] = {}

    def layer(self, layer: Layer, pattern: Pattern | None) -> float:
        """Return the seconds of all uses of a weight in a call."""
        return sum(self._operation(_with(operation, pattern)) for operation in layer.operations)

    def network(self, chosen: Mapping[str, Pattern], *, interval: bool = False) -> Latency:
        """Return the seconds of a call; the interval is that of the machine's numbers."""
        steps = tuple(_with(o, chosen.get(self._owners.get(o.name, ""))) for o in self._net)
        run = simulate(
            replace(self._net, operations=steps),
            self._spec,
            batch=self._samples,
            fidelity="analytical",
            dtype=self._dtype,
            interval=interval,
        )
        low, high = run.interval or (run.seconds, run.seconds)
        return Latency(run.seconds, low, high)

    def _operation(self, operation: Operation) -> float:
        if operation.key not in self._known:
            result = ENGINES[self._spec.engine](self._spec, operation, self._dtype, "analytical")
            self._known[operation.key] = result.cycles / float(self._spec.clock)
        return self._known[operation.key]


class CpuClock:
    """This machine, measured: every shape of linear layer dense and at each pattern, and the whole model dense.

    What is no linear layer takes what the whole takes beyond the layers. Layers and the whole are measured several times; the interval of a
    sum goes from the sum of the fastest to the sum of the slowest.

    Parameters
    ----------
    model, args, kwargs
        The dense model, and what to call it with.
    layers
        Whose times will be asked for.
    rounds
        How often to measure.
    """

    def __init__(
        self,
        model: nn.Module,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        layers: Mapping[str, Layer],
        rounds: int = 3,
    ) -> None:
        self._layers = layers
        self._seconds: dict[tuple[object, ...], tuple[float, ...]] = {}
        self._measure_layers(layers, rounds)
        whole = _timed(model, args, kwargs, rounds)
        dense = sum(self._times(layer, None)[0] for layer in layers.values())
        self._rest = tuple(max(0.0, seconds - dense) for seconds in _spread(whole))

    def layer(self, layer: Layer, pattern: Pattern | None) -> float:
        """Return the seconds of all uses of a weight in a call, the median of the rounds."""
        return self._times(layer, pattern)[0]

    def network(self, chosen: Mapping[str, Pattern], *, interval: bool = False) -> Latency:
        """Return the seconds of a call."""
        parts = [self._rest, *(self._times(layer, chosen.get(name)) for name, layer in self._layers.items())]
        middle, low, high = (sum(part[at] for part in parts) for at in range(3))
        return Latency(middle, low, high)

    def _times(self, layer: Layer, pattern: Pattern | None) -> tuple[float, float, float]:
        """Return (median, low, high); of a weight that never runs packed, nothing: it is part of the rest."""
        text = _DENSE if pattern is None else pattern.canonical
        totals = [0.0, 0.0, 0.0]
        for operation in layer.operations:
            found = self._seconds.get((layer.weight.matrix_shape, operation.M, text))
            found = found or self._seconds.get((layer.weight.matrix_shape, operation.M, _DENSE), (0.0,))
            totals = [total + part for total, part in zip(totals, _spread(found), strict=True)]
        return totals[0], totals[1], totals[2]

    def _measure_layers(self, layers: Mapping[str, Layer], rounds: int) -> None:
        by_tokens: dict[int, dict[tuple[int, int], Layer]] = {}
        for layer in layers.values():
            for operation in layer.operations:
                if operation.kind == "linear":
                    by_tokens.setdefault(operation.M, {}).setdefault(layer.weight.matrix_shape, layer)
        for tokens, shapes in by_tokens.items():
            stand_ins = nn.Sequential(*(nn.Linear(K, N) for N, K in shapes))
            patterns = list(dict.fromkeys(pattern for layer in shapes.values() for pattern in layer.patterns))
            names = {weight.name: weight.matrix_shape for weight in prunable(stand_ins)}
            for _ in range(rounds):
                for (name, text), seconds in measured_costs(stand_ins, patterns, tokens).items():
                    key = (names[name], tokens, text)
                    self._seconds[key] = (*self._seconds.get(key, ()), seconds)


def _spread(samples: tuple[float, ...]) -> tuple[float, float, float]:
    return statistics.median(samples), min(samples), max(samples)


def _timed(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], rounds: int) -> tuple[float, ...]:
    """Return the seconds of a call of the model in evaluation mode, so many times the best of three, after one to warm up."""
    args, kwargs = tree_map_only(Tensor, _filled, (args, dict(kwargs)))
    found = []
    with evaluating(model), torch.inference_mode():
        for _ in range(3 * rounds + 1):
            start = time.perf_counter()
            model(*args, **kwargs)
            found.append(time.perf_counter() - start)
    return tuple(min(found[at : at + 3]) for at in range(1, len(found), 3))  # as layers are timed: noise only adds


def _filled(tensor: Tensor) -> Tensor:
    return torch.zeros(tensor.shape, dtype=tensor.dtype) if tensor.is_meta else tensor


def _with(operation: Operation, pattern: Pattern | None) -> Operation:
    if pattern is None or operation.weight is None or pattern.refusal((operation.N, operation.K)):
        return operation
    return operation.with_weight(WeightView.expected(pattern, operation.N, operation.K))
