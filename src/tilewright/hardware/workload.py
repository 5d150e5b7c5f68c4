"""`Workload`: a network as the list of operations an accelerator runs, with their shapes, packed weights and dependencies."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, PatternError, unknown
from ..formats import Packed
from ..patterns import NM, Pattern, TileVectorWise, TileWise
from ..records import Report

__all__ = ["Kind", "Operation", "WeightView", "Workload"]

Kind = Literal["linear", "conv", "matmul", "recurrent", "softmax", "norm", "elementwise", "pool", "embedding", "move"]
"""`linear`, `conv`, `matmul` and `recurrent` run on the lanes, the others on the vector unit or as memory traffic."""

PRODUCTS = ("linear", "conv", "matmul", "recurrent")


@dataclass(frozen=True, eq=False)
class WeightView:
    """What timing needs to know about a weight ``[N, K]``.

    Parameters
    ----------
    shape
        ``(N, K)``.
    pattern
        The pattern that the mask obeys; None for a dense weight.
    tile
        Number of outputs that share kept inputs.
    counts
        Kept inputs of each tile, int64 ``[tiles]``, in order; K for a dense weight.
    widths
        Outputs of each tile, int64 ``[tiles]``.
    rows
        Number of stored outputs; less than N if whole outputs were pruned.
    extra
        Number of elements kept in addition to the tiles (TEW). Default: 0.
    real
        True if the view was taken from a packed weight, False (the default) if it was derived from a pattern.
    """

    shape: tuple[int, int]
    pattern: Pattern | None
    tile: int
    counts: NDArray[np.int64]
    widths: NDArray[np.int64]
    rows: int
    extra: int = 0
    real: bool = False

    @classmethod
    def dense(cls, outputs: int, inputs: int) -> "WeightView":
        """Return the view of a weight that keeps everything."""
        return cls(
            (outputs, inputs), None, outputs, np.array([inputs], np.int64), np.array([outputs], np.int64), outputs
        )

    @classmethod
    def of(cls, packed: Packed) -> "WeightView":
        """Return the view of a packed weight with its actual counts, imbalance included."""
        extra = len(packed.residual.values) if packed.residual else 0
        return cls(
            packed.shape, packed.pattern, packed.tile, packed.counts, packed.widths, packed.stored, extra, real=True
        )

    @classmethod
    def expected(cls, pattern: Pattern, outputs: int, inputs: int) -> "WeightView":
        """Return the view of a weight that is evenly pruned to a pattern, for designs that have no weights yet.

        n:m is exact. For tile-wise patterns, outputs and inputs are each cut to ``sqrt(density)`` and all tiles keep the
        same number of inputs.

        Raises
        ------
        PatternError
            If the kept counts do not follow from the pattern alone.
        """
        match pattern:
            case NM():
                tail = inputs % pattern.m
                kept = inputs // pattern.m * pattern.n + min(pattern.n, tail)
                return cls._even(pattern, (outputs, inputs), pattern.tile, outputs, kept)
            case TileWise():
                share = float(np.sqrt(pattern.density))
                return cls._even(
                    pattern,
                    (outputs, inputs),
                    pattern.tile,
                    max(1, round(outputs * share)),
                    max(1, round(inputs * share)),
                )
            case _:
                raise PatternError(
                    f"the counts that {pattern} keeps in each tile depend on the weights; pack a pruned model, or use an n:m or "
                    "tile-wise pattern"
                )

    @classmethod
    def _even(cls, pattern: Pattern, shape: tuple[int, int], tile: int, rows: int, kept: int) -> "WeightView":
        starts = np.arange(0, rows, tile, dtype=np.int64)
        widths = np.minimum(tile, rows - starts)
        return cls(shape, pattern, tile, np.full(len(widths), kept, np.int64), widths, rows)

    @cached_property
    def kept(self) -> int:
        """Number of weights kept."""
        counts = self.counts
        # The counts of this pattern are the columns of a tile; each output keeps n of every m of them.
        if isinstance(self.pattern, TileVectorWise):
            counts = counts // self.pattern.m * self.pattern.n + np.minimum(self.pattern.n, counts % self.pattern.m)
        return int((counts * self.widths).sum()) + self.extra

    @property
    def density(self) -> float:
        """Kept weights over all weights."""
        return self.kept / (self.shape[0] * self.shape[1])


@dataclass(frozen=True, eq=False)
class Operation:
    """One step of a network.

    Parameters
    ----------
    name
        Name, unique in its workload: that of the module, with a suffix if the module is used more than once.
    kind
        The kind of operation, one of `Kind`.
    M, N, K
        Tokens (or pixels), outputs and inputs of each product. Default: 0, for operations that are not products.
    copies
        Number of independent products of this shape, such as heads times samples, or groups of a convolution. Default: 1.
    weight
        The weight of a linear, convolution or recurrent step. Default: None, for products of activations and vector
        operations.
    function
        The function of a vector operation: ``"softmax"``, ``"layer_norm"``, ``"gelu"``, ``"add"``, ... Default: empty.
    row
        Length of the rows that softmax, a norm or pooling reduces over. Default: 0.
    reads, writes
        Number of activation elements read and written. Default: 0.
    inputs
        Names of the operations whose results this one waits for. Default: none.
    steps
        For recurrent steps, the number of products that must run in sequence, each of M tokens. Default: 1.
    """

    name: str
    kind: Kind
    M: int = 0
    N: int = 0
    K: int = 0
    copies: int = 1
    weight: WeightView | None = None
    function: str = ""
    row: int = 0
    reads: int = 0
    writes: int = 0
    inputs: tuple[str, ...] = ()
    steps: int = 1

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ArgumentError(f"operation {self.name}: {unknown('kind', self.kind, get_args(Kind))}")
        if self.is_product and min(self.M, self.N, self.K, self.copies, self.steps) < 1:
            raise ArgumentError(
                f"operation {self.name}: a product needs M, N and K of at least 1, got M={self.M}, N={self.N}, K={self.K}"
            )
        if self.weight is not None and self.weight.shape != (self.N, self.K):
            raise ArgumentError(
                f"operation {self.name}: the weight has shape {self.weight.shape}, but N={self.N} and K={self.K}"
            )

    @property
    def is_product(self) -> bool:
        """True if the operation runs on the lanes."""
        return self.kind in PRODUCTS

    @property
    def macs(self) -> int:
        """Dense multiply-accumulates: zeros counted as work."""
        return self.M * self.N * self.K * self.copies * self.steps if self.is_product else 0

    @property
    def useful(self) -> int:
        """Multiply-accumulates with kept weights."""
        if not self.is_product:
            return 0
        return self.macs if self.weight is None else self.M * self.copies * self.steps * self.weight.kept

    @property
    def flops(self) -> int:
        """Dense-equivalent operations: two per multiply-accumulate, one per element of a vector operation."""
        return 2 * self.macs if self.is_product else self.writes

    @property
    def key(self) -> tuple[object, ...]:
        """Everything the time depends on: operations with equal keys take equally long on a given machine."""
        view = self.weight
        shape = (
            self.kind,
            self.function,
            self.M,
            self.N,
            self.K,
            self.copies,
            self.steps,
            self.row,
            self.reads,
            self.writes,
        )
        if view is None:
            return shape
        counts = view.counts.tobytes() if len(view.counts) > 1 else int(view.counts.sum())
        return (*shape, view.pattern, view.tile, view.rows, view.extra, counts)

    def with_weight(self, weight: WeightView | None) -> "Operation":
        """Return the operation with another weight."""
        return replace(self, weight=weight)


@dataclass(frozen=True, eq=False)
class Workload:
    """A network's operations in an order they can run in.

    Parameters
    ----------
    name
        Name of the model.
    operations
        The operations, each after those named in its `inputs`.
    batch
        Batch size. Default: 1.
    unmodelled
        Steps of the model that no operation represents, by name, with how often each occurs. Default: none.

    Raises
    ------
    ArgumentError
        If two operations have the same name, or one comes before its inputs.
    """

    name: str
    operations: tuple[Operation, ...]
    batch: int = 1
    unmodelled: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        earlier: set[str] = set()
        for operation in self.operations:
            if operation.name in earlier:
                raise ArgumentError(f"{self.name} has two operations named {operation.name}; names must be unique")
            missing = [name for name in operation.inputs if name not in earlier]
            if missing:
                raise ArgumentError(f"{self.name}: {operation.name} waits for {missing[0]}, which must come before it")
            earlier.add(operation.name)

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    def __len__(self) -> int:
        return len(self.operations)

    @property
    def macs(self) -> int:
        """Dense multiply-accumulates of all operations, zeros included."""
        return sum(operation.macs for operation in self.operations)

    @property
    def useful(self) -> int:
        """Multiply-accumulates with kept weights."""
        return sum(operation.useful for operation in self.operations)

    def with_batch(self, batch: int) -> "Workload":
        """Return the workload at another batch size.

        Tokens of products with a weight, copies of products without one, and activation elements scale with the batch. A
        size that the old batch does not divide is taken as independent of it and stays.

        Raises
        ------
        ArgumentError
            If the batch is less than 1.
        """
        if batch < 1:
            raise ArgumentError(f"{self.name}: batch must be at least 1, got {batch}")
        if batch == self.batch:
            return self
        return replace(self, batch=batch, operations=tuple(_rebatched(o, self.batch, batch) for o in self.operations))

    def with_pattern(self, pattern: Pattern | None) -> "Workload":
        """Return the workload with every weight that can take the pattern evenly pruned to it; None makes all weights dense."""
        return replace(self, operations=tuple(_repatterned(operation, pattern) for operation in self.operations))

    def table(self, dtype: str = "float16") -> Report:
        """Return one row per operation: shape, pattern, FLOPs, bytes in `dtype`, and FLOPs per byte."""
        from .machine.spec import BYTES

        size = BYTES[dtype]
        rows = []
        for o in self.operations:
            weights = int(o.weight.kept * size) if o.weight is not None else 0
            activations = int((o.reads + o.writes) * size)
            moved = weights + activations
            rows.append(
                {
                    "name": o.name,
                    "kind": o.function or o.kind,
                    "M": o.M,
                    "N": o.N,
                    "K": o.K,
                    "copies": o.copies * o.steps,
                    "pattern": str(o.weight.pattern) if o.weight is not None and o.weight.pattern else "",
                    "density": o.useful / o.macs if o.macs else 1.0,
                    "flops": o.flops,
                    "weight bytes": weights,
                    "activation bytes": activations,
                    "flops/byte": o.flops / moved if moved else 0.0,
                }
            )
        summary = {
            "model": self.name,
            "batch": self.batch,
            "operations": len(self),
            "dense MACs": self.macs,
            "useful MACs": self.useful,
            **{f"not modelled, {name}": count for name, count in self.unmodelled.items()},
        }
        return Report("workload", tuple(rows), summary)


def _rebatched(operation: Operation, old: int, new: int) -> Operation:
    def grown(size: int) -> int:
        return size // old * new if size % old == 0 else size

    tokens, copies = operation.M, operation.copies
    if operation.weight is None and copies % old == 0:
        copies = grown(copies)
    else:
        tokens = grown(tokens)
    return replace(operation, M=tokens, copies=copies, reads=grown(operation.reads), writes=grown(operation.writes))


def _repatterned(operation: Operation, pattern: Pattern | None) -> Operation:
    if operation.weight is None:
        return operation
    if pattern is None:
        return operation.with_weight(WeightView.dense(operation.N, operation.K))
    if pattern.refusal((operation.N, operation.K)):
        return operation
    return operation.with_weight(WeightView.expected(pattern, operation.N, operation.K))
