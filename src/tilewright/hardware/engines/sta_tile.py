"""Closed forms of the STA-like array: words, beats and cycles of tiles. docs/explanation/sta-model.md derives them.

The array has R rows (tokens) and C columns (outputs) of processing elements. Each holds the sum of one output and has L
multipliers, each behind a selector that takes one of W activations. Operands enter at two edges and move one element per
cycle, so element (r, c) sees beat k r + c cycles after the edge issued it. After the last beat of a tile, the sum moves
to a second register and the columns shift their sums out in R cycles while the next tile runs.

A *word* is what the position decoder of a column delivers at once. A dense word is L activations and L weights and needs
no decoder. An n:m word is as many groups of m as the window and the multipliers take, ``max(1, min(W // m, L // n))``, or
one group in ``ceil(n / L)`` beats if n exceeds L. The decoder reads `index_bits` of the bitmap per cycle, one word ahead
of the beats.
"""

from dataclasses import dataclass

from ...errors import ArgumentError

__all__ = ["Array", "Counters", "Word", "dense_word", "issue", "sparse_word", "stream"]


@dataclass(frozen=True)
class Array:
    """Sizes of the array.

    Parameters
    ----------
    rows, columns
        Tokens and outputs of a tile.
    lanes
        Multipliers per processing element.
    window
        Activations that a row receives per beat, and inputs of each selector: a power of two, at least `lanes`.
    index_bits
        Bitmap bits that a column decodes per cycle.

    Raises
    ------
    ArgumentError
        If a size is below 1, or the window is not a power of two or is below `lanes`.
    """

    rows: int
    columns: int
    lanes: int
    window: int
    index_bits: int

    def __post_init__(self) -> None:
        for name in ("rows", "columns", "lanes", "window", "index_bits"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name} of an array must be at least 1, got {getattr(self, name)}")
        if self.window & (self.window - 1) or self.window < self.lanes:
            raise ArgumentError(
                f"the window of an array must be a power of two and at least its lanes, got a window of {self.window} with "
                f"{self.lanes} lanes"
            )

    @property
    def macs(self) -> int:
        """Multiply-accumulates per cycle."""
        return self.rows * self.columns * self.lanes


@dataclass(frozen=True)
class Word:
    """How K inputs go through the array in one mode.

    Parameters
    ----------
    activations
        Inputs that a word covers.
    slots
        Weights of one output in a word.
    beats
        Cycles for which a word occupies the lanes. Default: 1.
    decode
        Cycles that the decoder needs for the positions of a word. Default: 0, for words without positions.
    """

    activations: int
    slots: int
    beats: int = 1
    decode: int = 0

    def count(self, inputs: int) -> int:
        """Return the number of words for K inputs."""
        return -(-inputs // self.activations)


@dataclass(frozen=True)
class Counters:
    """Cycles of a run of tiles, counted at the edge that issues the beats. They add up to `total`.

    Parameters
    ----------
    busy
        Cycles in which a beat was issued.
    index
        Cycles in which the next word was not decoded yet.
    drained
        Cycles in which the last beat of a tile waited for the columns to shift out the sums of the tile before.
    tail
        Cycles after the last beat, in which the array empties and the last sums leave.
    """

    busy: int
    index: int
    drained: int
    tail: int

    @property
    def total(self) -> int:
        """Cycles of the whole run."""
        return self.busy + self.index + self.drained + self.tail


def dense_word(array: Array) -> Word:
    """Return the word of dense weights and of products of activations, whose selectors are bypassed."""
    return Word(array.lanes, array.lanes)


def sparse_word(array: Array, n: int, m: int) -> Word:
    """Return the word of n:m weights.

    Raises
    ------
    ArgumentError
        If m is not a power of two or exceeds the window, or n is not between 1 and m - 1.

    Examples
    --------
    >>> array = Array(rows=8, columns=128, lanes=2, window=16, index_bits=16)
    >>> sparse_word(array, 2, 4).activations, sparse_word(array, 1, 4).activations, sparse_word(array, 3, 4).beats
    (4, 8, 2)
    """
    if m < 2 or m & (m - 1) or m > array.window:
        raise ArgumentError(
            f"selectors of {array.window} inputs take m from 2 to {array.window}, a power of two; got {n}:{m}"
        )
    if not 0 < n < m:
        raise ArgumentError(f"n of n:m must be between 1 and m - 1, got {n}:{m}")
    groups = max(1, min(array.window // m, array.lanes // n))
    return Word(groups * m, groups * n, -(-n // array.lanes), -(-groups * m // array.index_bits))


def issue(word: Word, words: int) -> tuple[int, int]:
    """Return the (busy, index) cycles at the edge for one tile with a given number of words.

    The decoder starts with the tile, and moves on to the next word when the lanes take one: each later word follows the
    word before it after ``max(beats, decode)`` cycles.
    """
    if words < 1:
        raise ArgumentError(f"words must be at least 1, got {words}")
    return words * word.beats, word.decode + (words - 1) * max(0, word.decode - word.beats)


def stream(array: Array, word: Word, words: int, tiles: int) -> Counters:
    """Return the cycles of a run of equal tiles whose operands are always available.

    Parameters
    ----------
    array, word
        The array, and the word of its mode.
    words
        Number of words per tile.
    tiles
        Number of tiles.

    Examples
    --------
    >>> array = Array(rows=4, columns=4, lanes=1, window=4, index_bits=4)
    >>> stream(array, dense_word(array), words=8, tiles=1).total  # K + 2R + C - 2
    18
    """
    busy, index = issue(word, words)
    wait = max(0, array.rows - busy - index)
    return Counters(tiles * busy, tiles * index, (tiles - 1) * wait, 2 * array.rows + array.columns - 2)
