"""`AcceleratorSpec`: one machine as a frozen value, with lanes that multiply, n:m selectors in front of them, and memories.

The Sparse Tensor Core, STA and S4 differ only in the numbers of their specification: which n:m their selectors pick, how
many lanes they have, and which memories feed them. Golden model, cycle models and hardware generator read the same value.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Literal, get_args

from ...errors import ArgumentError
from ..dram import DRAMS
from ..quantity import Quantity, derived

__all__ = ["AcceleratorSpec", "DataType", "Engine", "Memory", "Tile"]

Engine = Literal["tensor-core", "sta", "s4"]
DataType = Literal["float32", "tf32", "float16", "bfloat16", "int16", "int8", "int4"]
Tile = tuple[int, int, int]
"""M, N and K of the tile that one core works on at a time."""

BYTES: Mapping[str, float] = MappingProxyType(
    {"float32": 4, "tf32": 4, "float16": 2, "bfloat16": 2, "int16": 2, "int8": 1, "int4": 0.5, "int32": 4}
)


@dataclass(frozen=True)
class Memory:
    """One level of memory.

    Parameters
    ----------
    name
        ``"dram"``, ``"l2"``, ``"shared"``, ``"weights"``, ``"activations"``, ...
    size
        Bytes of one instance.
    bandwidth
        Bytes per second of one instance, at full efficiency.
    instances
        Number of instances on a chip: one per core, or one for all. Default: 1.
    efficiency
        Share of the bandwidth that long streams reach, above 0 and up to 1. Default: that of `kind`, or 1 without a kind.
    kind
        For DRAM, the name of its timing preset in `tilewright.hardware.dram`. Default: empty, as for on-chip memories.
    """

    name: str
    size: Quantity
    bandwidth: Quantity
    instances: int = 1
    efficiency: Quantity | None = None
    kind: str = ""


@dataclass(frozen=True)
class AcceleratorSpec:
    """An accelerator.

    Parameters
    ----------
    name
        The preset's name, such as ``"a100"``.
    engine
        The cycle model that simulates it.
    about
        One sentence that describes the machine.
    chips
        Number of chips; they work on different samples of a batch.
    cores
        Cores per chip: streaming multiprocessors or processing units.
    rows, columns
        Lanes of one core as an array; their meaning is defined by the engine.
    clock
        Clock in Hz.
    macs
        Dense multiply-accumulates per cycle and core, by data type.
    selectors
        The ``(n, m)`` that the selectors support besides dense, by data type. Empty for a dense machine.
    tiles
        Tile shapes ``(M, N, K)`` that its scheduler may choose from.
    memories
        Levels of memory, nearest to the lanes first; the last one is DRAM.
    costs
        Named constants of the engine, such as ``"launch"`` in seconds and ``"fill"`` in cycles. Each engine documents
        those it reads.
    energy
        Joules per multiply-accumulate (``"mac.int8"``, ...) and per byte of each level (``"byte.dram"``, ...), and
        ``"static"`` in watts.
    limits
        Figures that results are checked against, such as ``"power"`` in watts.

    Raises
    ------
    ArgumentError
        If a field is out of range; the message names the field and the value.
    """

    name: str
    engine: Engine
    about: str
    chips: Quantity
    cores: Quantity
    rows: Quantity
    columns: Quantity
    clock: Quantity
    macs: Mapping[str, Quantity]
    selectors: Mapping[str, tuple[tuple[int, int], ...]]
    tiles: tuple[Tile, ...]
    memories: tuple[Memory, ...]
    costs: Mapping[str, Quantity] = field(default_factory=dict)
    energy: Mapping[str, Quantity] = field(default_factory=dict)
    limits: Mapping[str, Quantity] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("macs", "selectors", "costs", "energy", "limits"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        _validate(self)

    def __reduce__(self) -> tuple[Any, ...]:
        # Read-only views of mappings cannot be pickled; the mappings behind them can.
        values = (getattr(self, item.name) for item in fields(self))
        return AcceleratorSpec, tuple(dict(v) if isinstance(v, Mapping) else v for v in values)

    def __hash__(self) -> int:
        return hash(self.digest())

    def digest(self) -> str:
        """Return the SHA-256 of all numbers and names, a key for results that depend on this machine."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    @property
    def dram(self) -> Memory:
        """The outermost memory."""
        return self.memories[-1]

    @property
    def types(self) -> tuple[str, ...]:
        """The data types that the machine multiplies."""
        return tuple(self.macs)

    def memory(self, name: str) -> Memory:
        """Return a level of memory by name.

        Raises
        ------
        ArgumentError
            If the machine has no memory of that name.
        """
        for memory in self.memories:
            if memory.name == name:
                return memory
        raise ArgumentError(
            f"{self.name} has no memory {name!r}; it has {', '.join(memory.name for memory in self.memories)}"
        )

    def rate(self, dtype: str) -> Quantity:
        """Return the dense multiply-accumulates per cycle and core for a data type.

        Raises
        ------
        ArgumentError
            If the machine does not multiply this type.
        """
        if dtype not in self.macs:
            raise ArgumentError(f"{self.name} does not multiply {dtype}; it takes {', '.join(self.types)}")
        return self.macs[dtype]

    def peak(self, dtype: str, density: float = 1.0) -> float:
        """Return the dense-equivalent operations per second of the whole card, two per multiply-accumulate."""
        return (
            2
            * float(self.rate(dtype))
            * float(self.cores)
            * float(self.chips)
            * float(self.clock)
            / self.executed(dtype, density)
        )

    def executed(self, dtype: str, density: float) -> float:
        """Return the density at which lanes run balanced weights of a given density: the next one that is supported."""
        steps = sorted(n / m for n, m in self.selectors.get(dtype, ()))
        return next((step for step in steps if density <= step + 1e-12), 1.0)

    def dense(self) -> "AcceleratorSpec":
        """Return the same machine without its selectors: every lane takes its operands in order."""
        return replace(self, name=f"{self.name}-dense", about=f"{self.about} Selectors left out.", selectors={})

    def quantities(self) -> Iterator[tuple[str, Quantity]]:
        """Yield the path and the quantity of every number, such as ``("memories.dram.bandwidth", ...)``."""
        for item in fields(self):
            yield from _quantities(item.name, getattr(self, item.name))

    def with_quantity(self, path: str, value: float) -> "AcceleratorSpec":
        """Return a copy with the number at a path of `quantities` replaced, marked as derived.

        A new clock scales the bandwidths of on-chip memories, which move a fixed number of bytes per cycle. DRAM has its
        own clock.

        Parameters
        ----------
        path
            Path of the number, such as ``"clock"`` or ``"memories.dram.bandwidth"``.
        value
            The new value, in the unit of the old one.

        Raises
        ------
        ArgumentError
            If the path is unknown, or no machine with this value can be built.
        """
        head, _, rest = path.partition(".")
        if head not in {item.name for item in fields(self)}:
            raise ArgumentError(f"{self.name} has no quantity {path!r}; quantities() lists the paths")
        changed = {head: _replaced(getattr(self, head), rest, value, path)}
        if path == "clock" and value > 0:
            changed["memories"] = (
                *(_sped(m, value / float(self.clock)) for m in self.memories[:-1]),
                self.memories[-1],
            )
        return replace(self, **changed)

    def to_dict(self) -> dict[str, Any]:
        """Return every number with its unit, provenance, source and interval, as plain data."""
        numbers = {
            path: {
                "value": q.value,
                "unit": q.unit,
                "provenance": q.provenance,
                "source": q.source,
                "low": q.low,
                "high": q.high,
            }
            for path, q in self.quantities()
        }
        return {
            "name": self.name,
            "engine": self.engine,
            "about": self.about,
            "selectors": {dtype: [f"{n}:{m}" for n, m in steps] for dtype, steps in self.selectors.items()},
            "tiles": [list(tile) for tile in self.tiles],
            "memories": [{"name": m.name, "instances": m.instances, "kind": m.kind} for m in self.memories],
            "quantities": numbers,
        }


def _sped(memory: Memory, factor: float) -> Memory:
    rate = memory.bandwidth
    low, high = (None if end is None else end * factor for end in (rate.low, rate.high))
    return replace(memory, bandwidth=replace(rate, value=rate.value * factor, low=low, high=high))


def _quantities(path: str, value: Any) -> Iterator[tuple[str, Quantity]]:
    match value:
        case Quantity():
            yield path, value
        case Memory():
            for name in ("size", "bandwidth", "efficiency"):
                if getattr(value, name) is not None:
                    yield f"{path}.{name}", getattr(value, name)
        case Mapping():
            for key, item in value.items():
                yield from _quantities(f"{path}.{key}", item)
        case tuple():
            for item in value:
                if isinstance(item, Memory):
                    yield from _quantities(f"{path}.{item.name}", item)


def _replaced(value: Any, rest: str, number: float, path: str) -> Any:
    match value:
        case Quantity() if not rest:
            return derived(number, value.unit, f"set in place of {value.value:g}")
        case Memory() if isinstance(getattr(value, rest, None), Quantity):
            return replace(value, **{rest: _replaced(getattr(value, rest), "", number, path)})
        case Mapping() if rest in value:
            return {**value, rest: _replaced(value[rest], "", number, path)}
        case tuple():
            name, _, tail = rest.partition(".")
            if any(isinstance(item, Memory) and item.name == name for item in value):
                return tuple(
                    _replaced(item, tail, number, path) if isinstance(item, Memory) and item.name == name else item
                    for item in value
                )
    raise ArgumentError(f"no quantity at {path!r}; quantities() lists the paths")


_AT_LEAST_ONE = ("lanes", "window", "bank", "vector.lanes", "accumulators")
"""Costs that are counts of at least 1."""
_POSITIVE = ("port", "capability", "small sparse", "fma")
"""Costs that are rates, and so positive."""
_SELECTOR = ("window", "bank")
"""Costs that are the number of inputs of a selector, and so powers of two."""


def _validate(spec: AcceleratorSpec) -> None:
    def refuse(name: str, value: object, expected: str) -> None:
        raise ArgumentError(f"{spec.name or 'accelerator'}: {name} is {value}; it must be {expected}")

    if not spec.name:
        refuse("name", repr(spec.name), "a non-empty string")
    if spec.engine not in get_args(Engine):
        refuse("engine", repr(spec.engine), f"one of {', '.join(get_args(Engine))}")
    for name in ("chips", "cores", "rows", "columns"):
        value = float(getattr(spec, name))
        if value < 1 or value != int(value):
            refuse(name, f"{value:g}", "a whole number of at least 1")
    if float(spec.clock) <= 0:
        refuse("clock", f"{float(spec.clock):g} Hz", "positive")
    if not spec.macs:
        refuse("macs", "empty", "given for at least one data type")
    for dtype, rate in spec.macs.items():
        if dtype not in get_args(DataType):
            refuse("macs", repr(dtype), f"keyed by data type: {', '.join(get_args(DataType))}")
        if float(rate) <= 0:
            refuse(f"macs.{dtype}", f"{float(rate):g}", "positive")
    for dtype, steps in spec.selectors.items():
        if dtype not in spec.macs:
            refuse("selectors", repr(dtype), f"keyed by data types that the machine multiplies: {', '.join(spec.macs)}")
        for n, m in steps:
            if m < 2 or m & (m - 1):
                refuse(
                    f"selectors.{dtype}", f"{n}:{m}", "n:m with m a power of two, as a selector of m inputs is built"
                )
            if not 0 < n < m:
                refuse(f"selectors.{dtype}", f"{n}:{m}", "n:m with 0 < n < m")
    for tile in spec.tiles:
        if len(tile) != 3 or min(tile) < 1:
            refuse("tiles", tile, "three numbers M, N, K of at least 1")
    if not spec.memories:
        refuse("memories", "empty", "given for at least the DRAM")
    for memory in spec.memories:
        for name in ("size", "bandwidth"):
            if float(getattr(memory, name)) <= 0:
                refuse(f"memories.{memory.name}.{name}", f"{float(getattr(memory, name)):g}", "positive")
        if memory.instances < 1:
            refuse(f"memories.{memory.name}.instances", memory.instances, "at least 1")
        if memory.kind and memory.kind not in DRAMS:
            refuse(f"memories.{memory.name}.kind", repr(memory.kind), f"empty or one of {', '.join(DRAMS)}")
        if memory.efficiency is not None and not 0 < float(memory.efficiency) <= 1:
            refuse(f"memories.{memory.name}.efficiency", f"{float(memory.efficiency):g}", "above 0 and at most 1")
    for group in ("costs", "energy", "limits"):
        for name, quantity in getattr(spec, group).items():
            if float(quantity) < 0:
                refuse(f"{group}.{name}", f"{float(quantity):g}", "non-negative")
    for name, quantity in spec.costs.items():
        value = float(quantity)
        if name in _AT_LEAST_ONE and value < 1:
            refuse(f"costs.{name}", f"{value:g}", "at least 1")
        if name in _POSITIVE and value <= 0:
            refuse(f"costs.{name}", f"{value:g}", "positive")
        if name in _SELECTOR and (value != int(value) or int(value) & (int(value) - 1)):
            refuse(f"costs.{name}", f"{value:g}", "a power of two, as a selector is built")
