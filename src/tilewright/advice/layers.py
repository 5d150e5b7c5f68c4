"""The weights of a model, the operations that use each one, and the patterns that each one can take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..hardware import AcceleratorSpec, Operation, WeightView, Workload, capture
from ..patterns import Pattern, parse
from ..pruning import Weight, choose

__all__ = ["Layer", "layers_of", "patterns_for", "survey_network"]

_CPU = ("32:64x4", "16:64x4", "8:64x4", "tw16@50%", "tw16@75%", "tw16@87.5%")
_TILES = ("tw128@50%", "tw128@75%")


@dataclass(frozen=True, eq=False)
class Layer:
    """One weight and what it could become.

    Parameters
    ----------
    weight
        The parameter.
    operations
        The operations that use it; each runs once per call of the model.
    patterns
        The patterns that it can take.
    reasons
        Why it cannot take each of the other patterns, by pattern text.
    """

    weight: Weight
    operations: tuple[Operation, ...]
    patterns: tuple[Pattern, ...]
    reasons: Mapping[str, str]


class _Named(capture.Views):
    """Dense views that remember which parameter each belongs to."""

    def __init__(self) -> None:
        super().__init__({})
        self.owners: dict[int, tuple[WeightView, str]] = {}

    def get(self, name: str, outputs: int, inputs: int, first: int = 0) -> WeightView:
        """Return a new dense view for every use of a parameter."""
        view = WeightView.dense(outputs, inputs)
        self.owners[id(view)] = view, name
        return view


def survey_network(
    model: nn.Module, example: Any, batch: int | None, sequence: int | None
) -> tuple[Workload, dict[str, str]]:
    """Return a model's operations with every weight dense, and the name of each operation's weight, by operation name."""
    views = _Named()
    net = capture.capture(model, example, batch=batch, sequence=sequence, views=views)
    return net, {o.name: views.owners[id(o.weight)][1] for o in net if id(o.weight) in views.owners}


def layers_of(
    model: nn.Module, net: Workload, owners: Mapping[str, str], patterns: Sequence[Pattern], ignore: Sequence[str]
) -> dict[str, Layer]:
    """Return every weight that can be pruned, by name.

    Raises
    ------
    TargetError
        If the model has no such weight, or an expression in `ignore` matches nothing.
    """
    users: dict[str, list[Operation]] = {}
    for operation in net:
        if operation.name in owners:
            users.setdefault(owners[operation.name], []).append(operation)
    columns = [choose(model, pattern, None, list(ignore)) for pattern in patterns]
    layers = {}
    for row in zip(*columns, strict=True):
        weight = row[0].weight
        if not weight.reason:
            fits = tuple(assignment.pattern for assignment in row if assignment.pattern is not None)
            reasons = {str(p): a.reason for p, a in zip(patterns, row, strict=True) if a.pattern is None}
            layers[weight.name] = Layer(weight, tuple(users.get(weight.name, ())), fits, reasons)
    return layers


def patterns_for(spec: AcceleratorSpec | None, dtype: str) -> tuple[Pattern, ...]:
    """Return the patterns worth trying on a target: what the CPU kernels run well, or what a machine's selectors take.

    For each density that is a power of two, only the n:m with the widest m is returned, as it leaves the most freedom.
    Machines that choose tiles in software also get tile-wise patterns with tiles of 128 outputs.
    """
    if spec is None:
        return tuple(parse(text) for text in _CPU)
    widest: dict[float, tuple[int, int]] = {}
    for n, m in spec.selectors.get(dtype, ()):
        if m % n == 0 and (m // n) & (m // n - 1) == 0 and m > widest.get(n / m, (0, 0))[1]:
            widest[n / m] = n, m
    steps = [f"{n}:{m}" for _, (n, m) in sorted(widest.items(), reverse=True)]
    return tuple(parse(text) for text in (*steps, *(_TILES if spec.engine == "tensor-core" else ())))
