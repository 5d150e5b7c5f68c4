"""Closed forms of the STA-like array: words, beats and cycles of tiles. Derived in docs/explanation/sta-model.md.

The array has R rows (tokens) and C columns (outputs) of processing elements. Each holds one output and has L multipliers, each behind a
selector that takes one of W activations. Operands enter at two edges and move one element a cycle, so element (r, c) sees beat k
r + c cycles after the edge issued it. When the last beat of a tile has passed, the sum moves to a second register and columns shift
their sums out, R cycles each, while the next tile runs.

A *word* is what the position decoder of a column hands over at once. Dense, it is L activations and L weights and needs no decoder.
For n:m it is as many groups of m as the window and the multipliers take, ``max(1, min(W // m, L // n))``, or one group in
``ceil(n / L)`` beats where n exceeds L. The decoder reads `index_bits` of the bitmap a cycle, one word ahead of the beats.
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
        Multipliers of a processing element.
    window
        Activations that a row receives a beat, and inputs of each selector: a power of two, at least `lanes`.
    index_bits
        Bits of the bitmap that a column decodes a cycle.
    """

    rows: int
    columns: int
    lanes: int
    window: int
    index_bits: int

    def __post_init__(self) -> None:
        for name in ("rows", "columns", "lanes", "window", "index_bits"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"an array needs {name} of at least 1, and {getattr(self, name)} was given")
        if self.window & (self.window - 1) or self.window < self.lanes:
            raise ArgumentError(
                f"an array needs a window that is a power of two and not below its lanes, as selectors are built; "
                f"window {self.window} was given with {self.lanes} lanes"
            )

    @property
    def macs(self) -> int:
        """Multiply-accumulates a cycle."""
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
        Cycles that a word keeps the lanes.
    decode
        Cycles that the decoder needs for its positions; 0 where there are none.
    """

    activations: int
    slots: int
    beats: int = 1
    decode: int = 0

    def count(self, inputs: int) -> int:
        """Return the words that K inputs take."""
        return -(-inputs // self.activations)


@dataclass(frozen=True)
class Counters:
    """Cycles of a run of tiles, as counted at the edge that issues the beats. They add up to `total`.

    Parameters
    ----------
    busy
        A beat was issued.
    index
        The next word was not decoded.
    drained
        The last beat of a tile waited until the columns had let go of the sums before.
    tail
        After the last beat: the array empties and the last sums leave.
    """

    busy: int
    index: int
    drained: int
    tail: int

    @property
    def total(self) -> int:
        """Cycles from the first to the last."""
        return self.busy + self.index + self.drained + self.tail


def dense_word(array: Array) -> Word:
    """Return the word of dense weights and of products of activations: selectors bypassed."""
    return Word(array.lanes, array.lanes)


def sparse_word(array: Array, n: int, m: int) -> Word:
    """Return the word of n:m weights.

    Raises
    ------
    ArgumentError
        If m is no power of two, is beyond the window, or n is not between 1 and m - 1.

    Examples
    --------
    >>> array = Array(rows=8, columns=128, lanes=2, window=16, index_bits=16)
    >>> sparse_word(array, 2, 4).activations, sparse_word(array, 1, 4).activations, sparse_word(array, 3, 4).beats
    (4, 8, 2)
    """
    if m < 2 or m & (m - 1) or m > array.window:
        raise ArgumentError(
            f"selectors of {array.window} inputs take m from 2 to {array.window}, a power of two; {n}:{m} was given"
        )
    if not 0 < n < m:
        raise ArgumentError(f"n:m weights keep between 1 and m - 1 of m, and {n}:{m} was given")
    groups = max(1, min(array.window // m, array.lanes // n))
    return Word(groups * m, groups * n, -(-n // array.lanes), -(-groups * m // array.index_bits))


def issue(word: Word, words: int) -> tuple[int, int]:
    """Return (busy, index) cycles at the edge for one tile of so many words: one tile alone starts and ends with them.

    The decoder starts with the tile, and goes on to the next word when the lanes take one: each later word comes
    ``max(beats, decode)`` after the word before it.
    """
    if words < 1:
        raise ArgumentError(f"a tile needs at least one word, and {words} were given")
    return words * word.beats, word.decode + (words - 1) * max(0, word.decode - word.beats)


def stream(array: Array, word: Word, words: int, tiles: int) -> Counters:
    """Return the cycles of equal tiles, one after another, operands at hand.

    Parameters
    ----------
    array, word
        The array and the mode.
    words
        Words of each tile.
    tiles
        How many.

    Examples
    --------
    >>> array = Array(rows=4, columns=4, lanes=1, window=4, index_bits=4)
    >>> stream(array, dense_word(array), words=8, tiles=1).total  # K + 2R + C - 2
    18
    """
    busy, index = issue(word, words)
    wait = max(0, array.rows - busy - index)
    return Counters(tiles * busy, tiles * index, (tiles - 1) * wait, 2 * array.rows + array.columns - 2)
