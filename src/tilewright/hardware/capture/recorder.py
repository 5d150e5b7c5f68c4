"""The record of a model's run: named operations, and for every tensor the operations that its values come from."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_leaves

from ..workload import PRODUCTS, Kind, Operation
from .weights import Views

__all__ = ["Module", "Recorder", "Source", "parameters_of", "tensors_in"]

_HEAVY = (
    *("gelu", "erf", "tanh", "sigmoid", "silu", "swish", "exp", "log", "pow", "sqrt", "rsqrt", "div", "mul", "add", "sub"),
)  # fmt: skip
"""Functions that a chain of element-wise steps is named after, costliest first."""


@dataclass(frozen=True)
class Module:
    """A module that is running.

    Parameters
    ----------
    path
        Its name in the model.
    leaf
        True if it has no children; its operations then take its name without a suffix. Default: False.
    function
        The function that its element-wise steps compute together, such as ``"gelu"``. Default: empty, for unknown.
    """

    path: str
    leaf: bool = False
    function: str = ""

    def name(self, suffix: str) -> str:
        """Return the name of an operation of this module."""
        if self.leaf and self.path:
            return self.path
        return f"{self.path}.{suffix}" if self.path else suffix


@dataclass(frozen=True)
class Source:
    """Where the values of a tensor come from.

    Parameters
    ----------
    producers
        Names of the operations that produce it; empty for inputs and constants.
    constant
        True if it does not depend on the model's inputs: a parameter, or computed from parameters alone.
    weight
        Name of the parameter that it is a view or cast of; empty for other tensors.
    distinct
        Number of stored elements, less than the tensor's size if it was expanded; None for its size.
    """

    producers: tuple[str, ...] = ()
    constant: bool = False
    weight: str = ""
    distinct: int | None = None


class Recorder:
    """Records operations in the order they run.

    Parameters
    ----------
    views
        The views of the weights, by parameter name.
    """

    def __init__(self, views: Views) -> None:
        self.views = views
        self.operations: list[Operation] = []
        self.unmodelled: Counter[str] = Counter()
        self.muted = 0
        self._modules = [Module("")]
        self._sources: dict[int, tuple[Source, StorageWeakRef | None]] = {}
        self._uses: Counter[str] = Counter()
        self._names: set[str] = set()
        self._read: set[tuple[int, int]] = set()  # tensors that the last element-wise operation reads
        self._same: dict[int, int] = {}  # results that equal another tensor up to a factor or bias
        self._inner: dict[int, int] = {}  # results inside an element-wise chain, with the index of its operation

    @property
    def path(self) -> str:
        """Name of the module that is running."""
        return self._modules[-1].path

    def enter(self, module: "Module") -> None:
        """Note that a module begins."""
        self._modules.append(module)

    def leave(self) -> None:
        """Note that the innermost module ends."""
        self._modules.pop()

    def known(self, tensor: Tensor) -> Source:
        """Return where a tensor's values come from; an unknown tensor is a constant that the model created."""
        return self._sources.get(_key(tensor), (Source(constant=True), None))[0]

    def distinct(self, tensor: Tensor) -> int:
        """Return how many elements have to be read for the tensor, repeats of expanded dimensions not counted."""
        elements = 1
        for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
            elements *= size if stride else 1
        known = self.known(tensor).distinct
        return min(elements, known) if known is not None else elements

    def label(self, value: object, source: Source) -> None:
        """Set where the tensors in a value come from."""
        for tensor in tensors_in(value):
            # The weak reference keeps the storage's address from being reused.
            weak = StorageWeakRef(tensor.untyped_storage()) if tensor.layout == torch.strided else None  # type: ignore[no-untyped-call]
            self._sources[_key(tensor)] = (source, weak)

    def passed_on(self, inputs: Sequence[Tensor], out: object, *, same: bool) -> None:
        """Label a result that costs nothing; `same` if it is a view, copy or cast of the first input."""
        sources = [self.known(tensor) for tensor in inputs]
        merged = Source(_producers(sources), all(source.constant for source in sources))
        if same and inputs:
            merged = replace(merged, weight=sources[0].weight, distinct=self.distinct(inputs[0]))
        self.label(out, merged)

    def emit(
        self,
        kind: Kind,
        suffix: str,
        inputs: Sequence[Tensor],
        out: object,
        *,
        name: str = "",
        after: Iterable[str] = (),
        **fields: Any,
    ) -> str:
        """Record an operation and return its name; reads and writes follow from the tensors by default."""
        fields.setdefault("reads", sum(self.distinct(tensor) for tensor in self._unlike(inputs)))
        fields.setdefault("writes", sum(tensor.numel() for tensor in tensors_in(out)))
        self._surface(inputs)
        waits = tuple(dict.fromkeys((*self._producers(inputs), *after)))
        unique = self._unique(name or self._modules[-1].name(suffix))
        self.operations.append(Operation(unique, kind, inputs=waits, **fields))
        self._read = {self._place(tensor) for tensor in inputs}
        self.label(out, Source((unique,)))
        return unique

    def elementwise(self, function: str, inputs: Sequence[Tensor], out: object) -> None:
        """Record an element-wise step; it joins the operation before it if that is element-wise and produced an input."""
        last = self.operations[-1] if self.operations else None
        varying = [tensor for tensor in inputs if not self.known(tensor).constant]
        if last is not None and self._absorbed(last, function, inputs, varying):
            self.label(out, Source((last.name,)))
            self._same[_key(tensors_in(out)[0])] = _key(varying[0])
        elif last is None or last.kind != "elementwise" or last.name not in self._producers(varying):
            function = self._modules[-1].function or function
            self.emit("elementwise", function, inputs, out, function=function)
        else:
            self._join(last, function, inputs, out)

    def fold(self, inputs: Sequence[Tensor], out: object) -> bool:
        """Fold a step into the weight and bias of the product before it; return False if there is no such product."""
        last = self.operations[-1] if self.operations else None
        if last is None or last.weight is None or self.known(inputs[0]).producers != (last.name,):
            return False
        self.label(out, Source((last.name,)))
        return True

    def _absorbed(self, last: Operation, function: str, inputs: Sequence[Tensor], varying: Sequence[Tensor]) -> bool:
        """Return True if a step only scales the product before it or adds its bias, which the output stage does anyway."""
        if last.kind not in PRODUCTS or len(varying) != 1 or self.known(varying[0]).producers != (last.name,):
            return False
        constants = max((tensor.numel() for tensor in inputs if self.known(tensor).constant), default=1)
        bias = last.weight is not None and function in ("add", "sub") and constants in (1, last.N)
        return bias or (function in ("mul", "div") and constants == 1)

    def _join(self, last: Operation, function: str, inputs: Sequence[Tensor], out: object) -> None:
        """Append an element-wise step to the chain of the operation before it."""
        chained = [tensor for tensor in inputs if self.known(tensor).producers == (last.name,)]
        fresh = [
            tensor
            for tensor in self._unlike(inputs)
            if self._place(tensor) not in self._read and all(tensor is not other for other in chained)
        ]
        self._surface(fresh)
        last = self.operations[-1]
        waits = dict.fromkeys((*last.inputs, *self._producers(inputs)))
        waits.pop(last.name, None)
        self.operations[-1] = replace(
            last,
            function=_heavier(last.function, function),
            reads=last.reads + sum(self.distinct(tensor) for tensor in fresh),
            writes=sum(tensor.numel() for tensor in tensors_in(out)),
            inputs=tuple(waits),
        )
        self._read |= {self._place(tensor) for tensor in inputs}
        self._inner |= {_key(tensor): len(self.operations) - 1 for tensor in chained}
        self.label(out, Source((last.name,)))
        for tensor in tensors_in(out):
            self._inner.pop(_key(tensor), None)

    def _surface(self, inputs: Sequence[Tensor]) -> None:
        """Count as written the results inside a chain that other operations read."""
        for tensor in inputs:
            index = self._inner.pop(_key(tensor), None)
            if index is not None:
                chain = self.operations[index]
                self.operations[index] = replace(chain, writes=chain.writes + tensor.numel())

    def _place(self, tensor: Tensor) -> tuple[int, int]:
        key = _key(tensor)
        return self._same.get(key, key), int(tensor.storage_offset())

    def _unlike(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the tensors without those that repeat an earlier one."""
        return list({self._place(tensor): tensor for tensor in reversed(tensors)}.values())[::-1]

    def _producers(self, tensors: Sequence[Tensor]) -> tuple[str, ...]:
        return _producers([self.known(tensor) for tensor in tensors])

    def _unique(self, name: str) -> str:
        while True:
            self._uses[name] += 1
            unique = name if self._uses[name] == 1 else f"{name}.{self._uses[name]}"
            if unique not in self._names:
                self._names.add(unique)
                return unique


def tensors_in(value: object) -> list[Tensor]:
    """Return the tensors anywhere inside a value."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def parameters_of(recorder: Recorder, named: Mapping[str, Tensor]) -> None:
    """Label the parameters and buffers of a model."""
    for name, tensor in named.items():
        if not recorder.known(tensor).weight:
            recorder.label(tensor, Source((), constant=True, weight=name))


def _key(tensor: Tensor) -> int:
    if tensor.layout != torch.strided:
        return id(tensor)
    return int(tensor.untyped_storage()._cdata)


def _producers(sources: Iterable[Source]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for source in sources for name in source.producers))


def _heavier(first: str, second: str) -> str:
    ranks = [_HEAVY.index(name) if name in _HEAVY else len(_HEAVY) for name in (first, second)]
    return first if ranks[0] <= ranks[1] else second
