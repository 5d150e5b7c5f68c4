"""Requantisation of int32 accumulators to narrow integers by a fixed-point factor, and the scales of real numbers.

A factor is a pair (multiplier, shift) that stands for ``multiplier / 2**shift``. Everything here rounds halves away from
zero, so that negating the input negates the output, except where it saturates.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...errors import ArgumentError

__all__ = [
    "FixedPoint",
    "Quantised",
    "dequantise",
    "fixed_point",
    "quantise",
    "requantise",
    "round_shift",
    "scale_for",
]

MULTIPLIER_BITS = 31
LARGEST_SHIFT = 62
"""|int32 accumulator| * multiplier < 2**62, and half of 2**62 on top still fits int64."""


@dataclass(frozen=True, eq=False)
class FixedPoint:
    """Factors ``multiplier / 2**shift``, one for all channels or one per channel.

    Parameters
    ----------
    multiplier
        int64, ``2**30 <= multiplier < 2**31``, or 0 for a factor that maps every int32 to 0.
    shift
        int64 of the same shape, 1 to 62.
    """

    multiplier: NDArray[np.int64]
    shift: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Quantised:
    """Integers and their real step: ``real = values * scale``.

    Parameters
    ----------
    values
        The integers.
    scale
        The step: a scalar, or an array with one step for each index of the quantised axis.
    """

    values: NDArray[Any]
    scale: NDArray[np.float64]


def fixed_point(scale: ArrayLike) -> FixedPoint:
    """Return the fixed-point factors nearest to real scales.

    With ``scale = f * 2**e`` and ``0.5 <= f < 1``, the multiplier is ``f * 2**31`` rounded with halves to even, and the
    shift is ``31 - e``. A multiplier that rounds up to ``2**31`` becomes ``2**30`` with e one higher. Below ``2**-32``
    every int32 product rounds to 0, and the factor is (0, 1).

    Parameters
    ----------
    scale
        Scales above 0 and below ``2**30``: one number, or one per channel.

    Raises
    ------
    ArgumentError
        If a scale is not positive and finite, or is too large for a right shift.

    Examples
    --------
    >>> factor = fixed_point([0.75, 1 / 3])
    >>> factor.multiplier.tolist(), factor.shift.tolist()
    ([1610612736, 1431655765], [31, 32])
    """
    real = np.asarray(scale, dtype=np.float64)
    bad = ~(np.isfinite(real) & (real > 0))
    if bad.any():
        raise ArgumentError(
            f"a requantisation scale must be positive and finite, and {real[bad].flat[0]} was given; "
            "a channel of zeros takes the scale 1"
        )
    fraction, exponent = np.frexp(real)
    multiplier = np.rint(fraction * 2.0**MULTIPLIER_BITS).astype(np.int64)
    carried = multiplier == 1 << MULTIPLIER_BITS
    multiplier = np.where(carried, 1 << MULTIPLIER_BITS - 1, multiplier)
    shift = MULTIPLIER_BITS - (exponent.astype(np.int64) + carried)
    if (shift < 1).any():
        raise ArgumentError(
            f"a requantisation scale must be below 2**30, and {float(real.max()):g} was given; the input is counted in steps that are "
            "far too coarse for the output"
        )
    zero = shift > LARGEST_SHIFT
    return FixedPoint(np.where(zero, 0, multiplier), np.where(zero, 1, shift))


def round_shift(numbers: NDArray[np.int64], shift: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """Return ``numbers / 2**shift`` rounded with halves away from zero; ``|numbers| < 2**62``, and `shift` is 1 to 62."""
    half = np.int64(1) << (np.asarray(shift, dtype=np.int64) - 1)
    magnitude = (np.abs(numbers) + half) >> np.asarray(shift, dtype=np.int64)
    result: NDArray[np.int64] = np.where(numbers < 0, -magnitude, magnitude)
    return result


def requantise(accumulators: NDArray[Any], factor: FixedPoint, bits: int = 8) -> NDArray[np.int64]:
    """Return ``accumulators * factor``, rounded and saturated to `bits` bits in two's complement.

    Parameters
    ----------
    accumulators
        Integers in the range of int32, ``[..., N]``.
    factor
        One factor for all, or one per channel.
    bits
        Width of the result in bits, 2 to 32. Default: 8.

    Returns
    -------
    ndarray
        int64 ``[..., N]`` with values that fit `bits` bits.

    Raises
    ------
    ArgumentError
        If an accumulator does not fit int32.

    Examples
    --------
    >>> requantise(np.array([5, -5, 4, 1000]), fixed_point(0.5)).tolist()
    [3, -3, 2, 127]
    """
    wide = np.asarray(accumulators, dtype=np.int64)
    if wide.size and (int(wide.min()) < -(1 << 31) or int(wide.max()) >= 1 << 31):
        raise ArgumentError(
            f"accumulators are int32, and {int(wide.min())} to {int(wide.max())} were given; check the K limit of the product"
        )
    limit = 1 << bits - 1
    return np.clip(round_shift(wide * factor.multiplier, factor.shift), -limit, limit - 1)


def scale_for(peak: ArrayLike, bits: int = 8) -> NDArray[np.float64]:
    """Return the symmetric scale that maps the magnitude `peak` to ``2**(bits - 1) - 1``; 1 where the peak is 0."""
    top = np.asarray(peak, dtype=np.float64)
    if not np.isfinite(top).all():
        raise ArgumentError("the numbers to quantise hold NaN or infinity; a scale needs a finite peak")
    return np.where(top > 0, top / (2 ** (bits - 1) - 1), 1.0)


def quantise(
    numbers: ArrayLike, *, scale: ArrayLike | None = None, axis: int | None = None, bits: int = 8
) -> Quantised:
    """Return real numbers as symmetric integers: ``numbers / scale``, rounded with halves away from zero and saturated.

    Parameters
    ----------
    numbers
        Real numbers of any shape.
    scale
        The step of the integers. Default: the step at which the largest magnitude becomes ``2**(bits - 1) - 1``.
    axis
        The axis with one scale per index, such as the outputs of a weight. Default: None, one scale for all.
    bits
        Width of the integers: up to 8 returns int8, up to 16 int16, and more int32. Default: 8.

    Raises
    ------
    ArgumentError
        If the numbers are not finite or a scale is not positive.

    Examples
    --------
    >>> quantise([1.0, -0.5]).values.tolist()
    [127, -64]
    """
    real = np.asarray(numbers, dtype=np.float64)
    kind = np.int8 if bits <= 8 else np.int16 if bits <= 16 else np.int32
    if scale is None:
        others = None if axis is None else tuple(i for i in range(real.ndim) if i != axis % real.ndim)
        step = scale_for(np.max(np.abs(real), axis=others, initial=0.0), bits)
    else:
        step = np.asarray(scale, dtype=np.float64)
        axis = axis if step.ndim else None
    if not np.isfinite(real).all() or not (np.isfinite(step) & (step > 0)).all():
        raise ArgumentError(
            "only finite numbers and positive scales can be quantised, and NaN, infinity or 0 was given"
        )
    shape = [1] * real.ndim
    if axis is not None:
        shape[axis] = -1
    ratio = real / (step.reshape(shape) if axis is not None else step)
    limit = 2 ** (bits - 1)
    rounded = np.copysign(np.floor(np.abs(ratio) + 0.5), ratio)
    return Quantised(np.clip(rounded, -limit, limit - 1).astype(kind), step)


def dequantise(values: ArrayLike, scale: ArrayLike) -> NDArray[np.float64]:
    """Return ``values * scale`` in float64."""
    return np.asarray(values, dtype=np.float64) * np.asarray(scale, dtype=np.float64)
