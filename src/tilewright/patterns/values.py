"""Patterns as values: frozen, comparable, hashable; `str` gives the text that `parse` reads back.

A pattern describes a weight viewed as a matrix ``[N, K]``: N outputs, K inputs.
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
"""Most outputs in a tile and largest side of a block: the limits of the file format, checked before any work is done."""

LARGEST_INNER = 64
"""Largest m inside a tile (TVW), a limit of the file format too."""

LARGEST = (1 << 31) - 1
"""Largest number in any pattern; the sides of a weight have the same limit."""

_RATIOS = (1, 2, 4, 8, 16, 32)
"""Supported ratios of a bank's elements to its kept elements."""


@dataclass(frozen=True)
class Pattern:
    """Base class of patterns: a rule for which elements of a weight ``[N, K]`` may be kept."""

    @property
    def density(self) -> float:
        """Fraction of elements kept, as stated by the pattern."""
        raise TypeError(f"{type(self).__name__} is abstract; use one of the patterns, such as NM(2, 4)")

    @property
    def canonical(self) -> str:
        """Text shared by all equal patterns, however they were written; used in files and cache keys."""
        return str(self)

    @property
    def fixed(self) -> bool:
        """True if the pattern alone determines how much each layer keeps, so that budgets have no effect on it."""
        return False

    def refusal(self, shape: tuple[int, ...]) -> str | None:
        """Return the reason why a weight of this shape ``(N, K)`` cannot take the pattern, or None if it can."""
        if len(shape) != 2 or 0 in shape:
            return f"expected a matrix with at least one element, got shape {list(shape)}"
        return None


@dataclass(frozen=True)
class NM(Pattern):
    """n:m: n elements kept of every m neighbours along K (Mishra et al., arXiv 2104.08378, section 3).

    Parameters
    ----------
    n, m
        Number of kept elements, and number of neighbours they are chosen from; ``1 <= n <= m``.
    tile
        Number of neighbouring outputs that share their kept positions, which are chosen by the sum of squared scores.
        Default: 1.
    transposable
        Whether the mask also keeps at most n of every m neighbours along N, so that the transposed weight is n:m as well.
        Requires ``tile == 1``. Default: False.
    bank
        Whether to print a pattern such as 4:64 as ``bank64@16x``. Affects printing only: patterns that differ in nothing
        else are equal. Default: False.

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
                f"{self.n}:{self.m} keeps {self.n} of every {self.m}, which is impossible; "
                "n counts the kept elements and cannot exceed m"
            )
        if self.transposable and self.tile != 1:
            raise PatternError(
                f"{self.n}:{self.m}x{self.tile} cannot be transposable: positions cannot be shared by a tile and n:m in the "
                "other direction too; use tile=1"
            )

    @property
    def density(self) -> float:
        """n / m."""
        return self.n / self.m

    @property
    def fixed(self) -> bool:
        """Always True: n and m determine the density."""
        return True

    def kept(self, inputs: int) -> int:
        """Return how many of `inputs` inputs each output keeps, including a shorter last group."""
        return inputs // self.m * self.n + min(self.n, inputs % self.m)

    def refusal(self, shape: tuple[int, ...]) -> str | None:
        """Return why a weight of shape ``(N, K)`` cannot take the pattern: nothing to prune, or sides not divisible by m."""
        base = super().refusal(shape)
        if base:
            return base
        outputs, inputs = shape
        if self.n < self.m and inputs <= self.n:
            return f"{self} keeps {self.n} of every {self.m} inputs and the weight has only {inputs}, so nothing would be pruned"
        if self.transposable and (outputs % self.m or inputs % self.m):
            return f"{self} needs both sides to be multiples of {self.m}; the weight is {outputs} x {inputs}"
        return None

    def __str__(self) -> str:
        ratio = BANK // self.n
        if self.bank and self == NM(BANK // ratio, BANK) and ratio in _RATIOS:
            return f"bank{BANK}@{ratio}x"
        return self.canonical

    @property
    def canonical(self) -> str:
        """Text with n, m, tile and ``t`` for transposable, such as ``2:4x8``."""
        tile = f"x{self.tile}" if self.tile > 1 else ""
        return f"{self.n}:{self.m}{tile}{'t' if self.transposable else ''}"


def Banked(ratio: int) -> NM:  # noqa: N802 (a constructor, spelled like the pattern classes)
    """Return the bank-balanced pattern of S4 (Yen et al., arXiv 2207.08006): 64 / ratio elements kept of every 64.

    Parameters
    ----------
    ratio
        1 / density: one of 1, 2, 4, 8, 16, 32.

    Raises
    ------
    PatternError
        If the accelerator does not support the ratio.

    Examples
    --------
    >>> Banked(16), str(Banked(16))
    (NM(n=4, m=64, tile=1, transposable=False), 'bank64@16x')
    """
    if ratio not in _RATIOS:
        raise PatternError(f"unknown ratio {ratio!r} for a bank of 64; expected 1, 2, 4, 8, 16 or 32")
    return NM(BANK // ratio, BANK, bank=True)


@dataclass(frozen=True)
class TileWise(Pattern):
    """TW: whole outputs pruned, the rest regrouped into tiles that each drop input columns (Guo et al., arXiv 2008.13006).

    Parameters
    ----------
    tile
        Number of outputs in a tile (G in the paper).
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
    """TEW: tile-wise at ``sparsity + extra``, then the best pruned elements restored individually.

    Parameters
    ----------
    tile
        Number of outputs in a tile.
    sparsity
        Fraction of all elements pruned in the end, in ``[0, 1)``.
    extra
        Fraction of all elements restored, above 0; ``sparsity + extra`` must be below 1.
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
                f"a tile-element-wise pattern needs extra above 0% and sparsity + extra below 100%; got sparsity "
                f"{percent(self.sparsity)} and extra {percent(self.extra)}"
            )

    @property
    def density(self) -> float:
        """1 - sparsity; restored elements count as kept."""
        return 1 - self.sparsity

    def __str__(self) -> str:
        return f"tew{self.tile}@{percent(self.sparsity)}+{percent(self.extra)}"


@dataclass(frozen=True)
class TileVectorWise(Pattern):
    """TVW: tile-wise, then n:m along the compacted inputs of each tile (Guo et al., arXiv 2402.10876).

    Parameters
    ----------
    tile
        Number of outputs in a tile; ``tile * n >= m``, so that every kept column can be used by some output.
    sparsity
        Fraction of all elements pruned by both steps together, at least ``1 - n / m`` and below 1.
    n, m
        Pattern inside each tile. Default: 2:4.
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
                f"a tile-vector-wise pattern needs n <= m and tile * n >= m; got tile {self.tile} with {self.n}:{self.m} inside"
            )
        if self.density > self.n / self.m:
            raise PatternError(
                f"tile-vector-wise at {percent(self.sparsity)} keeps more than {self.n}:{self.m} inside each tile allows; "
                f"the lowest possible sparsity is {percent(1 - self.n / self.m)}"
            )

    @property
    def density(self) -> float:
        """1 - sparsity."""
        return 1 - self.sparsity

    def refusal(self, shape: tuple[int, ...]) -> str | None:
        """Return why a weight of shape ``(N, K)`` cannot take the pattern: too few outputs to use the columns they share."""
        base = super().refusal(shape)
        if base is None and shape[0] * self.n < self.m:
            return f"{self.n}:{self.m} inside a tile needs at least {-(-self.m // self.n)} outputs; the weight has {shape[0]}"
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
    """Blocks of `rows` outputs by `cols` inputs, each kept or pruned as a whole: the block baseline of the tile-wise paper."""

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
    """Any element may be kept or pruned: the element-wise baseline."""

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
    """Return a fraction as an exact percentage, which `fraction_of` converts back to the same float."""
    text = format((Decimal(repr(fraction)) * 100).normalize(), "f")
    return f"{text}%"


def fraction_of(text: str) -> float:
    """Return the fraction for the digits that `percent` wrote, passed without the percent sign."""
    return float(Decimal(text) / 100)


def _whole(kind: str, most: int = LARGEST, **numbers: int) -> None:
    for name, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise PatternError(f"{name} of a {kind} pattern must be an integer of at least 1, got {number!r}")
        if number > most:
            raise PatternError(f"{name} of a {kind} pattern must be at most {most:,}, got {quoted(number)}")


def _fraction(kind: str, number: float, name: str = "sparsity") -> None:
    if not isinstance(number, int | float) or isinstance(number, bool) or not 0 <= number < 1:
        raise PatternError(
            f"{name} of a {kind} pattern must be a fraction in [0, 1), got {number!r}; write 75% as 0.75"
        )
