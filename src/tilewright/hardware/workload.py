"""`Workload`: a network as the list of what an accelerator must do, with shapes, weights as they are packed, and dependencies."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, PatternError
from ..formats import Packed
from ..patterns import NM, Pattern, TileVectorWise, TileWise
from ..records import Report

__all__ = ["Kind", "Operation", "WeightView", "Workload"]

Kind = Literal["linear", "conv", "matmul", "recurrent", "softmax", "norm", "elementwise", "pool", "embedding", "move"]
"""`linear`, `conv`, `matmul` and `recurrent` run on the lanes, the others on the vector unit or in memory."""

PRODUCTS = ("linear", "conv", "matmul", "recurrent")


@dataclass(frozen=True, eq=False)
class WeightView:
    """What timing needs to know of a weight ``[N, K]``.

    Parameters
    ----------
    shape
        ``(N, K)``.
    pattern
        What the mask obeys; None for a dense weight.
    tile
        Outputs that share kept inputs.
    counts
        Kept inputs of each tile, in order; all of them K for a dense weight.
    widths
        Outputs of each tile.
    rows
        Outputs that are stored; fewer than N where whole outputs were pruned.
    extra
        Elements kept beside the tiles (TEW).
    real
        True if it was read off packed weights, False if it is what a pattern says of itself.
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
        """Return the view of a packed weight: its own counts, imbalance included."""
        extra = len(packed.residual.values) if packed.residual else 0
        return cls(
            packed.shape, packed.pattern, packed.tile, packed.counts, packed.widths, packed.stored, extra, real=True
        )

    @classmethod
    def expected(cls, pattern: Pattern, outputs: int, inputs: int) -> "WeightView":
        """Return the view of a weight that obeys a pattern evenly, for designs that no weights exist for yet.

        n:m comes out exact. For tile-wise patterns outputs and inputs are cut alike, each to ``sqrt(density)``, and all tiles
        keep the same number of inputs.

        Raises
        ------
        PatternError
            For a pattern whose kept counts do not follow from itself.
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
                    f"what {pattern} keeps in each tile is not known before there are weights; pack a pruned model, "
                    "or use an n:m or tile-wise pattern"
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
        # Counts of such a pattern are the columns of a tile, n of every m of which each output keeps.
        if isinstance(self.pattern, TileVectorWise):
            counts = counts // self.pattern.m * self.pattern.n + np.minimum(self.pattern.n, counts % self.pattern.m)
        return int((counts * self.widths).sum()) + self.extra

    @property
    def density(self) -> float:
        """Kept over all."""
        return self.kept / (self.shape[0] * self.shape[1])


@dataclass(frozen=True, eq=False)
class Operation:
    """One step of a network.

    Parameters
    ----------
    name
        Unique in its workload: the module's name, with a suffix where it is used more than once.
    kind
        What it is.
    M, N, K
        Of each product: tokens (or pixels), outputs, inputs. 0 for kinds that are no product.
    copies
        Independent products of this shape: heads times samples, groups of a convolution.
    weight
        Of a linear, convolution or recurrent step; None for products of activations.
    function
        Of the vector kinds: ``"softmax"``, ``"layer_norm"``, ``"gelu"``, ``"add"``, ...
    row
        Length of a row that softmax or a norm reduces over.
    reads, writes
        Elements of activations that it takes and gives.
    inputs
        Names of operations whose results it waits for.
    steps
        Recurrent only: products that must follow each other, M being the tokens of one.
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
            raise ArgumentError(
                f"operation {self.name}: kind is {self.kind!r}, and it must be one of {', '.join(get_args(Kind))}"
            )
        if self.is_product and min(self.M, self.N, self.K, self.copies, self.steps) < 1:
            raise ArgumentError(
                f"operation {self.name}: a product needs M, N and K of at least 1, and it has M={self.M}, N={self.N}, K={self.K}"
            )
        if self.weight is not None and self.weight.shape != (self.N, self.K):
            raise ArgumentError(
                f"operation {self.name}: its weight is {self.weight.shape} where N={self.N} and K={self.K}"
            )

    @property
    def is_product(self) -> bool:
        """True if it runs on the lanes."""
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
        """Dense-equivalent operations: two a multiply-accumulate, one an element and pass of the vector kinds."""
        return 2 * self.macs if self.is_product else self.writes

    @property
    def key(self) -> tuple[object, ...]:
        """What its time depends on: operations of equal keys take equally long on one machine."""
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
        Of the model.
    operations
        Every name in `inputs` stands before the operation that waits for it.
    batch
        Samples that go through together.
    unmodelled
        Steps of the model that no operation stands for, by name, with how often each occurs.
    """

    name: str
    operations: tuple[Operation, ...]
    batch: int = 1
    unmodelled: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for operation in self.operations:
            if operation.name in seen:
                raise ArgumentError(f"{self.name} has two operations named {operation.name}; each needs its own name")
            missing = [name for name in operation.inputs if name not in seen]
            if missing:
                raise ArgumentError(
                    f"{self.name}: {operation.name} waits for {missing[0]}, which does not come before it"
                )
            seen.add(operation.name)

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    def __len__(self) -> int:
        return len(self.operations)

    @property
    def macs(self) -> int:
        """Dense multiply-accumulates of the whole."""
        return sum(operation.macs for operation in self.operations)

    @property
    def useful(self) -> int:
        """Multiply-accumulates with kept weights."""
        return sum(operation.useful for operation in self.operations)

    def with_batch(self, batch: int) -> "Workload":
        """Return the workload with another number of samples.

        Tokens of products with a weight, copies of products without, and elements of activations grow with the batch; a size
        that it does not divide belongs to no sample and stays.

        Raises
        ------
        ArgumentError
            If the batch is less than 1.
        """
        if batch < 1:
            raise ArgumentError(f"{self.name}: a batch has at least one sample, and {batch} were asked for")
        if batch == self.batch:
            return self
        return replace(self, batch=batch, operations=tuple(_rebatched(o, self.batch, batch) for o in self.operations))

    def with_pattern(self, pattern: Pattern | None) -> "Workload":
        """Return the workload with every weight that can take the pattern as if it were pruned to it; None for dense."""
        return replace(self, operations=tuple(_repatterned(operation, pattern) for operation in self.operations))

    def table(self, dtype: str = "float16") -> Report:
        """Return one row an operation: shape, pattern, FLOPs, bytes and intensity."""
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
