"""How long layers and whole networks take on a target: a modelled machine, or this CPU as measured."""

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
    """Seconds per call, and the ends of their interval."""

    seconds: float
    low: float
    high: float


class Clock(Protocol):
    """Predicts the time of one layer, and of the whole network with some of its weights pruned."""

    def layer(self, layer: Layer, pattern: Pattern | None) -> float:
        """Return the seconds that all uses of a weight take in one call; pattern None means dense."""

    def network(self, chosen: Mapping[str, Pattern], *, interval: bool = False) -> Latency:
        """Return the time of one call with the weights in `chosen` pruned; `interval` asks for its interval as well."""


class ModelClock:
    """A modelled machine at the analytical level; pruned weights are taken as evenly pruned.

    Parameters
    ----------
    spec
        The machine.
    dtype
        Data type of weights and activations.
    net
        The operations that one chip runs.
    owners
        Name of the weight that each operation uses, by operation name.
    samples
        Size of the whole batch.
    """

    def __init__(
        self, spec: AcceleratorSpec, dtype: str, net: Workload, owners: Mapping[str, str], samples: int
    ) -> None:
        self._spec, self._dtype, self._net, self._owners, self._samples = spec, dtype, net, owners, samples
        self._known: dict[tuple[object, ...], float] = {}

    def layer(self, layer: Layer, pattern: Pattern | None) -> float:
        """Return the seconds that all uses of a weight take in one call."""
        return sum(self._operation(_with(operation, pattern)) for operation in layer.operations)

    def network(self, chosen: Mapping[str, Pattern], *, interval: bool = False) -> Latency:
        """Return the time of one call; its interval follows from those of the machine's numbers."""
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
    """This CPU as measured: each shape of linear layer, dense and at each pattern, and the whole model dense.

    Everything but the linear layers is assumed to take the rest of the whole model's time. Layers and model are measured
    several times; the interval of a sum runs from the sum of the fastest rounds to the sum of the slowest.

    Parameters
    ----------
    model
        The dense model.
    args, kwargs
        The arguments of one call.
    layers
        The layers to measure, by weight name.
    rounds
        How often each is measured. Default: 3.
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
        """Return the seconds that all uses of a weight take in one call, the median of the rounds."""
        return self._times(layer, pattern)[0]

    def network(self, chosen: Mapping[str, Pattern], *, interval: bool = False) -> Latency:
        """Return the time of one call; its interval follows from the fastest and the slowest rounds."""
        parts = [self._rest, *(self._times(layer, chosen.get(name)) for name, layer in self._layers.items())]
        middle, low, high = (sum(part[at] for part in parts) for at in range(3))
        return Latency(middle, low, high)

    def _times(self, layer: Layer, pattern: Pattern | None) -> tuple[float, float, float]:
        """Return (median, low, high) seconds; zeros for a weight that never runs packed, which counts as part of the rest."""
        text = _DENSE if pattern is None else pattern.canonical
        totals = [0.0, 0.0, 0.0]
        for operation in layer.operations:
            samples = self._seconds.get((layer.weight.matrix_shape, operation.M, text))
            samples = samples or self._seconds.get((layer.weight.matrix_shape, operation.M, _DENSE), (0.0,))
            totals = [total + part for total, part in zip(totals, _spread(samples), strict=True)]
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
    """Return `rounds` timings of a call in evaluation mode, each the best of three, after one call to warm up."""
    args, kwargs = tree_map_only(Tensor, _filled, (args, dict(kwargs)))
    seconds = []
    with evaluating(model), torch.inference_mode():
        for _ in range(3 * rounds + 1):
            start = time.perf_counter()
            model(*args, **kwargs)
            seconds.append(time.perf_counter() - start)
    # The best of three, as for layers: noise can only add time.
    return tuple(min(seconds[at : at + 3]) for at in range(1, len(seconds), 3))


def _filled(tensor: Tensor) -> Tensor:
    return torch.zeros(tensor.shape, dtype=tensor.dtype) if tensor.is_meta else tensor


def _with(operation: Operation, pattern: Pattern | None) -> Operation:
    if pattern is None or operation.weight is None or pattern.refusal((operation.N, operation.K)):
        return operation
    return operation.with_weight(WeightView.expected(pattern, operation.N, operation.K))
