"""The weights of a model, the operations that use each, and the patterns that each could take."""

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
    """One weight.

    Parameters
    ----------
    weight
        The parameter.
    operations
        What uses it, once a call of the model each.
    patterns
        That it can take.
    reasons
        Why it cannot take the others, by their text.
    """

    weight: Weight
    operations: tuple[Operation, ...]
    patterns: tuple[Pattern, ...]
    reasons: Mapping[str, str]


class _Named(capture.Views):
    """Dense views that remember whose they are."""

    def __init__(self) -> None:
        super().__init__({})
        self.owners: dict[int, tuple[WeightView, str]] = {}

    def get(self, name: str, outputs: int, inputs: int, first: int = 0) -> WeightView:
        """Return a view of its own for every use."""
        view = WeightView.dense(outputs, inputs)
        self.owners[id(view)] = view, name
        return view


def survey_network(
    model: nn.Module, example: Any, batch: int | None, sequence: int | None
) -> tuple[Workload, dict[str, str]]:
    """Return what a model does, every weight dense, and by operation the name of the weight that it uses."""
    views = _Named()
    net = capture.capture(model, example, batch=batch, sequence=sequence, views=views)
    return net, {o.name: views.owners[id(o.weight)][1] for o in net if id(o.weight) in views.owners}


def layers_of(
    model: nn.Module, net: Workload, owners: Mapping[str, str], patterns: Sequence[Pattern], ignore: Sequence[str]
) -> dict[str, Layer]:
    """Return every weight that could be pruned, by name.

    Raises
    ------
    TargetError
        If the model has none, or `ignore` matches nothing.
    """
    users: dict[str, list[Operation]] = {}
    for operation in net:
        if operation.name in owners:
            users.setdefault(owners[operation.name], []).append(operation)
    columns = [choose(model, pattern, None, list(ignore)) for pattern in patterns]
    found = {}
    for row in zip(*columns, strict=True):
        weight = row[0].weight
        if not weight.reason:
            fits = tuple(choice.pattern for choice in row if choice.pattern is not None)
            reasons = {str(p): choice.reason for p, choice in zip(patterns, row, strict=True) if choice.pattern is None}
            found[weight.name] = Layer(weight, tuple(users.get(weight.name, ())), fits, reasons)
    return found


def patterns_for(spec: AcceleratorSpec | None, dtype: str) -> tuple[Pattern, ...]:
    """Return what is worth trying on a target: for a CPU what its kernels run well, for a machine what its selectors take.

    Of selectors' n:m, for each density that is a power of two the one of the widest m, which leaves most freedom; on machines that choose
    tiles in software, tiles of 128 as well.
    """
    if spec is None:
        return tuple(parse(text) for text in _CPU)
    widest: dict[float, tuple[int, int]] = {}
    for n, m in spec.selectors.get(dtype, ()):
        if m % n == 0 and (m // n) & (m // n - 1) == 0 and m > widest.get(n / m, (0, 0))[1]:
            widest[n / m] = n, m
    found = [f"{n}:{m}" for _, (n, m) in sorted(widest.items(), reverse=True)]
    return tuple(parse(text) for text in (*found, *(_TILES if spec.engine == "tensor-core" else ())))
