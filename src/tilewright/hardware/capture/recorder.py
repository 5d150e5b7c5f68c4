"""What is written down while a model runs: operations with names, and for every tensor which operation its values come from."""

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
"""Functions a chain of element-wise steps is named after, the costliest first."""


@dataclass(frozen=True)
class Module:
    """A module at work.

    Parameters
    ----------
    path
        Its name in the model.
    leaf
        True if it holds no others: then its operations bear its name alone.
    function
        What its element-wise steps come to together, where its class says so: ``"gelu"``.
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
        Operations; empty for inputs and for what depends on none.
    constant
        True if no input of the model has a say in it: a parameter, or computed from parameters alone.
    weight
        Name of the parameter it is, however it is viewed or cast.
    distinct
        Elements that differ: fewer than a tensor has where it was expanded.
    """

    producers: tuple[str, ...] = ()
    constant: bool = False
    weight: str = ""
    distinct: int | None = None


class Recorder:
    """Operations in the order they ran.

    Parameters
    ----------
    views
        Weights by parameter name.
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
        self._read: set[tuple[int, int]] = set()  # what the last element-wise step has read
        self._same: dict[int, int] = {}  # results that are another tensor up to a factor
        self._inner: dict[int, int] = {}  # results inside an element-wise chain, by the operation that holds them

    @property
    def path(self) -> str:
        """Name of the module that runs now."""
        return self._modules[-1].path

    def enter(self, module: "Module") -> None:
        """Note that a module began."""
        self._modules.append(module)

    def leave(self) -> None:
        """Note that the module that began last ended."""
        self._modules.pop()

    def known(self, tensor: Tensor) -> Source:
        """Return where a tensor's values come from; one never seen is a constant the model made for itself."""
        return self._sources.get(_key(tensor), (Source(constant=True), None))[0]

    def distinct(self, tensor: Tensor) -> int:
        """Return how many elements must really be read to have the tensor."""
        own = 1
        for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
            own *= size if stride else 1
        known = self.known(tensor).distinct
        return min(own, known) if known is not None else own

    def label(self, value: object, source: Source) -> None:
        """Say where the tensors in a value come from."""
        for tensor in tensors_in(value):
            # The weak reference keeps the storage's address from being given to another.
            weak = StorageWeakRef(tensor.untyped_storage()) if tensor.layout == torch.strided else None  # type: ignore[no-untyped-call]
            self._sources[_key(tensor)] = (source, weak)

    def passed_on(self, inputs: Sequence[Tensor], out: object, *, same: bool) -> None:
        """Label a result that costs nothing; `same` if it is its first input seen otherwise: a view, a copy, a cast."""
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
        """Write down an operation and return its name; reads and writes follow from the tensors unless given."""
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
        """Write down an element-wise step; one that goes on with the result of the step before joins it."""
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
        """Let a step vanish into the product before it, whose weight and bias can hold it; False if there is none."""
        last = self.operations[-1] if self.operations else None
        if last is None or last.weight is None or self.known(inputs[0]).producers != (last.name,):
            return False
        self.label(out, Source((last.name,)))
        return True

    def _absorbed(self, last: Operation, function: str, inputs: Sequence[Tensor], varying: Sequence[Tensor]) -> bool:
        """Return True if a step only scales the product before it or adds its bias, which its output stage does anyway."""
        if last.kind not in PRODUCTS or len(varying) != 1 or self.known(varying[0]).producers != (last.name,):
            return False
        constants = max((tensor.numel() for tensor in inputs if self.known(tensor).constant), default=1)
        bias = last.weight is not None and function in ("add", "sub") and constants in (1, last.N)
        return bias or (function in ("mul", "div") and constants == 1)

    def _join(self, last: Operation, function: str, inputs: Sequence[Tensor], out: object) -> None:
        """Let an element-wise step go on where the one before it ends."""
        own = [tensor for tensor in inputs if self.known(tensor).producers == (last.name,)]
        fresh = [t for t in self._unlike(inputs) if self._place(t) not in self._read and all(t is not o for o in own)]
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
        self._inner |= {_key(tensor): len(self.operations) - 1 for tensor in own}
        self.label(out, Source((last.name,)))
        for tensor in tensors_in(out):
            self._inner.pop(_key(tensor), None)

    def _surface(self, inputs: Sequence[Tensor]) -> None:
        """Add to the writes of a chain what others read from its middle."""
        for tensor in inputs:
            index = self._inner.pop(_key(tensor), None)
            if index is not None:
                chain = self.operations[index]
                self.operations[index] = replace(chain, writes=chain.writes + tensor.numel())

    def _place(self, tensor: Tensor) -> tuple[int, int]:
        key = _key(tensor)
        return self._same.get(key, key), int(tensor.storage_offset())

    def _unlike(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the tensors without those that are an earlier one once more."""
        return list({self._place(tensor): tensor for tensor in reversed(tensors)}.values())[::-1]

    def _producers(self, tensors: Sequence[Tensor]) -> tuple[str, ...]:
        return _producers([self.known(tensor) for tensor in tensors])

    def _unique(self, name: str) -> str:
        while True:
            self._uses[name] += 1
            found = name if self._uses[name] == 1 else f"{name}.{self._uses[name]}"
            if found not in self._names:
                self._names.add(found)
                return found


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


def _heavier(one: str, other: str) -> str:
    ranks = [_HEAVY.index(name) if name in _HEAVY else len(_HEAVY) for name in (one, other)]
    return one if ranks[0] <= ranks[1] else other
