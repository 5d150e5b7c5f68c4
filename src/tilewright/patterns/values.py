"""Patterns as values: frozen, comparable, hashable; `str` gives the text that `parse` reads back.

A pattern speaks of a weight seen as a matrix ``[N, K]``: N outputs, K inputs.
"""

from dataclasses import dataclass, field
from decimal import Decimal

from ..errors import PatternError, quoted

__all__ = [
    "NM",
    "Banked",
    "Block",
    "Pattern",
    "TileElementWise",
    "TileVectorWise",
    "TileWise",
    "Unstructured",
]

BANK = 64
"""Neighbours along K in one bank of an S4 weight."""

LARGEST_TILE = 1024
"""Outputs in a tile, and sides of a block: what a file can hold, said before any work is done."""

LARGEST_INNER = 64
"""Largest m inside a tile (TVW), for the same reason."""

LARGEST = (1 << 31) - 1
"""Largest number of anything: sides of a weight go no further either."""

_RATIOS = (1, 2, 4, 8, 16, 32)
"""Of a bank's elements to the kept ones."""


@dataclass(frozen=True)
class Pattern:
    """Base of every pattern: a rule for which elements of a weight ``[N, K]`` may be kept."""

    @property
    def density(self) -> float:
        """Fraction of the elements that are kept, as the pattern states it."""
        raise TypeError(f"{type(self).__name__} is abstract; use one of the patterns, such as NM(2, 4)")

    @property
    def canonical(self) -> str:
        """The text that all equal patterns share, however each was written: for files, and for keys of a cache."""
        return str(self)

    @property
    def fixed(self) -> bool:
        """True if the pattern alone decides how much each layer keeps, so that no budget can move it."""
        return False

    def refusal(self, shape: tuple[int, ...]) -> str | None:
        """Return the reason why a weight of this ``[N, K]`` shape cannot take the pattern, or None if it can."""
        if len(shape) != 2 or 0 in shape:
            return f"a pattern needs a matrix with at least one element, and this one has shape {list(shape)}"
        return None


@dataclass(frozen=True)
class NM(Pattern):
    """n:m, n elements kept of every m neighbours along K (Mishra et al., arXiv 2104.08378, section 3).

    Parameters
    ----------
    n, m
        Kept elements, and neighbours they are chosen from. ``1 <= n <= m``.
    tile
        Neighbouring outputs that share their kept positions, chosen on summed squared scores.
    transposable
        The mask also keeps at most n of every m neighbours along N, so that the transposed weight
        is n:m as well. Needs ``tile == 1``.
    bank
        Print 4:64 as ``bank64@16x``, as whoever wrote it did. Makes no other difference: patterns that differ in nothing else are
        equal.

    Raises
    ------
    PatternError
        If the numbers contradict each other.

    Examples
    --------
    >>> str(NM(2, 4)), str(NM(32, 64, tile=4)), NM(1, 8).density
    ('2:4', '32:64x4', 0.125)
    """

    n: int
    m: int
    tile: int = 1
    transposable: bool = False
    bank: bool = field(default=False, compare=False, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        _whole("n:m", m=self.m, n=self.n)
        _whole("n:m", LARGEST_TILE, tile=self.tile)
        if self.n > self.m:
            raise PatternError(
                f"{self.n}:{self.m} keeps {self.n} of every {self.m}, which is more than there are; "
                "n counts the kept elements and cannot exceed m"
            )
        if self.transposable and self.tile != 1:
            raise PatternError(
                f"{self.n}:{self.m}x{self.tile} cannot be transposable: shared positions and the second direction "
                "exclude each other; use tile=1"
            )

    @property
    def density(self) -> float:
        """n / m."""
        return self.n / self.m

    @property
    def fixed(self) -> bool:
        """Always True: n and m decide."""
        return True

    def kept(self, inputs: int) -> int:
        """Return how many of `inputs` neighbours each output keeps, a trailing short group included."""
        return inputs // self.m * self.n + min(self.n, inputs % self.m)

    def refusal(self, shape: tuple[int, ...]) -> str | None:
        """Return why ``[N, K]`` cannot take the pattern: nothing to prune, or sides that m does not divide."""
        base = super().refusal(shape)
        if base:
            return base
        outputs, inputs = shape
        if self.n < self.m and inputs <= self.n:
            return (
                f"{self} keeps {self.n} of every {self.m} inputs and there are only {inputs}: nothing would be pruned"
            )
        if self.transposable and (outputs % self.m or inputs % self.m):
            return f"{self} needs both sides to be multiples of {self.m}, and the weight is {outputs} x {inputs}"
        return None

    def __str__(self) -> str:
        ratio = BANK // self.n
        if self.bank and self == NM(BANK // ratio, BANK) and ratio in _RATIOS:
            return f"bank{BANK}@{ratio}x"
        return self.canonical

    @property
    def canonical(self) -> str:
        """The text with n and m, tile and all."""
        tile = f"x{self.tile}" if self.tile > 1 else ""
        return f"{self.n}:{self.m}{tile}{'t' if self.transposable else ''}"


def Banked(ratio: int) -> NM:  # noqa: N802 (a constructor, spelled like the patterns it stands beside)
    """Return the bank-balanced pattern of S4 at a ratio (Yen et al., arXiv 2207.08006): 64 / ratio of every 64.

    Parameters
    ----------
    ratio
        1 / density: one of 1, 2, 4, 8, 16, 32.

    Raises
    ------
    PatternError
        If the ratio is not one that the accelerator has.

    Examples
    --------
    >>> Banked(16), str(Banked(16))
    (NM(n=4, m=64, tile=1, transposable=False), 'bank64@16x')
    """
    if ratio not in _RATIOS:
        raise PatternError(f"a bank of 64 has no ratio {ratio!r}; the ratios are 1, 2, 4, 8, 16 and 32")
    return NM(BANK // ratio, BANK, bank=True)


@dataclass(frozen=True)
class TileWise(Pattern):
    """TW: whole outputs pruned, the rest regrouped into tiles that each drop input columns (Guo et al., 2008.13006).

    Parameters
    ----------
    tile
        Outputs in a tile (G in the paper).
    sparsity
        Fraction of all elements pruned, in ``[0, 1)``.
    """

    tile: int
    sparsity: float

    def __post_init__(self) -> None:
        _whole("tile-wise", LARGEST_TILE, tile=self.tile)
        _fraction("tile-wise", self.sparsity)

    @property
    def density(self) -> float:
        """1 - sparsity."""
        return 1 - self.sparsity

    def __str__(self) -> str:
        return f"tw{self.tile}@{percent(self.sparsity)}"


@dataclass(frozen=True)
class TileElementWise(Pattern):
    """TEW: tile-wise at ``sparsity + extra``, then the best `extra` of all pruned elements restored one by one.

    Parameters
    ----------
    tile
        Outputs in a tile.
    sparsity
        Fraction of all elements pruned in the end.
    extra
        Fraction of all elements that is restored, above 0; ``sparsity + extra`` stays below 1.
    """

    tile: int
    sparsity: float
    extra: float

    def __post_init__(self) -> None:
        _whole("tile-element-wise", LARGEST_TILE, tile=self.tile)
        _fraction("tile-element-wise", self.sparsity)
        _fraction("tile-element-wise", self.extra, "extra")
        if self.extra == 0 or self.sparsity + self.extra >= 1:
            raise PatternError(
                f"tile-element-wise got sparsity {percent(self.sparsity)} and extra {percent(self.extra)}; extra must be "
                "above 0% and the two together below 100%"
            )

    @property
    def density(self) -> float:
        """1 - sparsity, the restored elements counted as kept."""
        return 1 - self.sparsity

    def __str__(self) -> str:
        return f"tew{self.tile}@{percent(self.sparsity)}+{percent(self.extra)}"


@dataclass(frozen=True)
class TileVectorWise(Pattern):
    """TVW: tile-wise, then n:m along the compacted inputs of each tile (Guo et al., 2402.10876).

    Parameters
    ----------
    tile
        Outputs in a tile; ``tile * n >= m``, so that every kept column can be used by some output.
    sparsity
        Fraction of all elements pruned by both steps together, at least ``1 - n / m``.
    n, m
        The inner pattern, 2:4 unless told.
    """

    tile: int
    sparsity: float
    n: int = 2
    m: int = 4

    def __post_init__(self) -> None:
        _whole("tile-vector-wise", LARGEST_TILE, tile=self.tile)
        _whole("tile-vector-wise", LARGEST_INNER, m=self.m, n=self.n)
        _fraction("tile-vector-wise", self.sparsity)
        if self.n > self.m or self.tile * self.n < self.m:
            raise PatternError(
                f"tile-vector-wise got tile {self.tile} with {self.n}:{self.m} inside; it needs n <= m and tile * n >= m"
            )
        if self.density > self.n / self.m:
            raise PatternError(
                f"tile-vector-wise at {percent(self.sparsity)} keeps more than {self.n}:{self.m} inside each tile allows; "
                f"the least sparsity is {percent(1 - self.n / self.m)}"
            )

    @property
    def density(self) -> float:
        """1 - sparsity."""
        return 1 - self.sparsity

    def refusal(self, shape: tuple[int, ...]) -> str | None:
        """Return why ``[N, K]`` cannot take the pattern: too few outputs to use the columns they share."""
        base = super().refusal(shape)
        if base is None and shape[0] * self.n < self.m:
            return f"{self.n}:{self.m} inside a tile needs at least {-(-self.m // self.n)} outputs, and there are {shape[0]}"
        return base

    @property
    def inner(self) -> NM:
        """The n:m pattern inside each tile."""
        return NM(self.n, self.m)

    def __str__(self) -> str:
        inner = "" if (self.n, self.m) == (2, 4) else f":{self.n}:{self.m}"
        return f"tvw{self.tile}@{percent(self.sparsity)}{inner}"


@dataclass(frozen=True)
class Block(Pattern):
    """Whole blocks of `rows` outputs by `cols` inputs kept or pruned: the block baseline of the tile-wise paper."""

    rows: int
    cols: int
    sparsity: float

    def __post_init__(self) -> None:
        _whole("block", LARGEST_TILE, rows=self.rows, cols=self.cols)
        _fraction("block", self.sparsity)

    @property
    def density(self) -> float:
        """1 - sparsity."""
        return 1 - self.sparsity

    def __str__(self) -> str:
        return f"block{self.rows}x{self.cols}@{percent(self.sparsity)}"


@dataclass(frozen=True)
class Unstructured(Pattern):
    """Any element may be kept: the element-wise baseline."""

    sparsity: float

    def __post_init__(self) -> None:
        _fraction("unstructured", self.sparsity)

    @property
    def density(self) -> float:
        """1 - sparsity."""
        return 1 - self.sparsity

    def __str__(self) -> str:
        return f"any@{percent(self.sparsity)}"


def percent(fraction: float) -> str:
    """Return a fraction as exact per cent: `fraction_of` reads the same float back."""
    text = format((Decimal(repr(fraction)) * 100).normalize(), "f")
    return f"{text}%"


def fraction_of(text: str) -> float:
    """Return the float that `percent` wrote, without its sign."""
    return float(Decimal(text) / 100)


def _whole(kind: str, most: int = LARGEST, **numbers: int) -> None:
    for name, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise PatternError(f"a {kind} pattern needs a whole number of at least 1 for {name}, and got {number!r}")
        if number > most:
            raise PatternError(f"a {kind} pattern takes at most {most:,} for {name}, and got {quoted(number)}")


def _fraction(kind: str, number: float, name: str = "sparsity") -> None:
    if not isinstance(number, int | float) or isinstance(number, bool) or not 0 <= number < 1:
        raise PatternError(
            f"a {kind} pattern needs {name} as a fraction from 0 up to but not including 1, and got {number!r}; "
            "75% is written 0.75"
        )
