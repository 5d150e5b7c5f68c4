"""The softmax unit: integer scores to integer probabilities, with shifts and a 256-entry table instead of an exponential.

Its internal numbers, all integers:

========= ==== ======================================================================================
t         24   score x log2(e) with 8 fraction bits, signed
E         17   running ceiling of the largest t, whole powers of two, signed
table[r]  16   ``2**(-r / 256)`` with 15 fraction bits, r = 0 ... 255
term      24   ``2**(t / 256 - E)`` with 23 fraction bits
S         40   running sum of the terms, 23 fraction bits
R         18   reciprocal of the leading 17 bits of S: ``floor(2**33 / a)``
========= ==== ======================================================================================
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError
from .requantise import FixedPoint, fixed_point, requantise

__all__ = ["LONGEST_ROW", "SoftmaxUnit", "softmax_row"]

FRACTION = 8
TABLE_BITS = 15
TERM_BITS = 23
LONGEST_ROW = 1 << 16
"""Most scores in a row: this many terms of at most ``2**23`` fit the 40-bit sum."""

TABLE: NDArray[np.int64] = np.array(
    [math.floor(2 ** (TABLE_BITS - r / (1 << FRACTION)) + 0.5) for r in range(1 << FRACTION)], dtype=np.int64
)
"""``2**(-r / 256)`` as uint16 with 15 fraction bits: 32768 down to 16428."""


@dataclass(frozen=True)
class SoftmaxUnit:
    """A softmax unit.

    Parameters
    ----------
    scale
        Real step of the integer scores (for attention: query scale x key scale / sqrt(head size)).
    lanes
        Number of scores that arrive together; the maximum is updated once per block of this size. Default: 16.
    bits
        Width of the probabilities, 4 to 15: they are in steps of ``2**-bits`` and saturate at ``2**bits - 1``. Default:
        7, which fits int8.

    Raises
    ------
    ArgumentError
        If the scale is not positive, `lanes` is below 1, or `bits` is not from 4 to 15.
    """

    scale: float
    lanes: int = 16
    bits: int = 7

    def __post_init__(self) -> None:
        if self.lanes < 1 or not 4 <= self.bits <= 15:
            raise ArgumentError(
                f"a softmax unit has at least 1 lane and 4 to 15 bits out, and got {self.lanes} lanes and {self.bits} bits"
            )
        _ = self.factor

    @property
    def factor(self) -> FixedPoint:
        """Factor from a score to t: ``scale * log2(e) * 2**8``."""
        return fixed_point(self.scale * math.log2(math.e) * (1 << FRACTION))

    @property
    def step(self) -> float:
        """Real step of the result."""
        return 2.0**-self.bits

    def error_bound(self, length: int) -> float:
        """Return the largest possible ``|result - softmax * 2**bits|`` for rows of a given length, in steps of the result.

        The bound is the sum of half a step for rounding, one step for saturation at probability 1, and relative errors:
        ``2**(2**-8) - 1`` for t in numerator and sum, ``2**-14`` for their table entries, ``2**-15`` for the reciprocal,
        ``2**-16`` for the factor of t, and ``(length + 3) / 2**22`` for the bits that shifts drop. It holds while t fits
        its 24 bits: ``|score * scale| < 22713``.
        """
        relative = 2 ** (2.0**-FRACTION) - 1 + 2.0**-14 + 2.0**-15 + 2.0**-16 + (length + 3) / 2.0 ** (TERM_BITS - 1)
        return 1.5 + relative * (1 << self.bits)

    def run(self, scores: NDArray[Any], mask: NDArray[np.bool_] | None = None) -> NDArray[np.int16]:
        """Return the softmax of each row, as defined by `softmax_row`.

        Parameters
        ----------
        scores
            Integers in the range of int32, ``[..., L]``.
        mask
            Broadcast to ``[..., L]``; scores where it is False are left out and get 0. A row without any True is all 0.
            Default: all True.

        Returns
        -------
        ndarray
            int16 ``[..., L]``, 0 to ``2**bits - 1``.

        Raises
        ------
        ArgumentError
            If a row is longer than `LONGEST_ROW`.

        Notes
        -----
        A result depends on the scores, on their order and on `lanes`: whenever E grows, S is shifted right and drops
        bits. In all, this changes S by less than 2 of its units of ``2**-23``. If the first block holds the maximum,
        order and lanes have no effect. Adding a multiple of 256 to every t never has an effect.

        Examples
        --------
        >>> SoftmaxUnit(scale=0.5, bits=8).run(np.array([[0, 2, 4]])).tolist()
        [[23, 63, 170]]
        """
        wide = np.asarray(scores)
        length = wide.shape[-1]
        _check_length(length)
        if not wide.size:
            return np.zeros(wide.shape, dtype=np.int16)
        keep = np.broadcast_to(np.bool_(True) if mask is None else mask, wide.shape)
        t = requantise(wide, self.factor, 24).reshape(-1, length)
        keep = keep.reshape(-1, length)
        top = np.full(len(t), -(1 << 17), dtype=np.int64)
        total = np.zeros(len(t), dtype=np.int64)
        for first in range(0, length, self.lanes):
            block, live = t[:, first : first + self.lanes], keep[:, first : first + self.lanes]
            peak = np.where(live, (block + 255) >> FRACTION, -(1 << 17)).max(axis=1)
            grown = np.maximum(top, peak)
            total >>= np.minimum(grown - top, 63)
            total += np.where(live, _terms(grown[:, None], block), 0).sum(axis=1)
            top = grown
        safe = np.maximum(total, 1)
        exponent = np.frexp(safe.astype(np.float64))[1].astype(np.int64) - 1  # exact: S is below 2**40
        reciprocal = (1 << 33) // np.maximum(safe >> np.maximum(exponent - 16, 0), 1)
        places = (17 + exponent - self.bits)[:, None]
        product = np.where(keep, _terms(top[:, None], t), 0) * reciprocal[:, None]
        rounded = (product + (np.int64(1) << (places - 1))) >> places
        result: NDArray[np.int16] = np.minimum(rounded, (1 << self.bits) - 1).astype(np.int16)
        return result.reshape(wide.shape)


def _terms(top: NDArray[np.int64], t: NDArray[np.int64]) -> NDArray[np.int64]:
    below = np.maximum((top << FRACTION) - t, 0)  # negative only where masked
    whole = np.minimum(below >> FRACTION, 63)
    terms: NDArray[np.int64] = (TABLE[below & 255] << (TERM_BITS - TABLE_BITS)) >> whole
    return terms


def softmax_row(unit: SoftmaxUnit, scores: list[int], mask: list[bool] | None = None) -> list[int]:
    """Return the softmax of one row, element by element; this is the definition of `SoftmaxUnit.run`.

    Parameters
    ----------
    unit
        The unit with its scale, lanes and bits.
    scores
        Integers in the range of int32.
    mask
        False for scores to leave out. Default: all True.
    """
    _check_length(len(scores))
    keep = [True] * len(scores) if mask is None else mask
    t = [int(requantise(np.array([score]), unit.factor, 24)[0]) for score in scores]

    def term(top: int, i: int) -> int:
        whole, part = divmod(top * 256 - t[i], 256)
        return int(TABLE[part]) * 256 >> whole

    top: int | None = None
    total = 0
    for first in range(0, len(t), unit.lanes):
        block = [i for i in range(first, min(first + unit.lanes, len(t))) if keep[i]]
        if not block:
            continue
        peak = max(-(-t[i] // 256) for i in block)
        if top is None or peak > top:
            total >>= 0 if top is None else peak - top
            top = peak
        total += sum(term(top, i) for i in block)
    if top is None:
        return [0] * len(t)
    leading = total.bit_length() - 1  # at least 22, for the largest term is above 2**22
    reciprocal = (1 << 33) // (total >> leading - 16)
    places = 17 + leading - unit.bits
    result = []
    for i in range(len(t)):
        product = term(top, i) * reciprocal if keep[i] else 0
        result.append(min((product + (1 << places - 1)) >> places, (1 << unit.bits) - 1))
    return result


def _check_length(length: int) -> None:
    if length > LONGEST_ROW:
        raise ArgumentError(
            f"the softmax unit sums rows of up to {LONGEST_ROW} scores, and a row of {length} was given; split the row"
        )
