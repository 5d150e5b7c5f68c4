"""Weights and checkpoints of every pattern, small enough to build thousands of."""

from collections.abc import Iterable

import numpy as np

from tilewright import patterns
from tilewright.formats import Packed, StoredWeight, pack

EVERY_PATTERN = (
    "2:4", "1:4", "4:8", "1:2", "3:5", "4:4", "1:1", "2:4x8", "32:64x4", "5:7x3", "8:64", "2:64", "32:64", "16:32", "2:4t",
    "3:100", "70:90x2", "tw4@75%", "tw16@50%", "tw1@60%", "tew4@70%+5%", "tew16@75%+1.5%", "tvw4@75%", "tvw8@80%:3:7",
    "tvw16@50%", "block4x6@75%", "block1x8@50%", "block32x32@0%", "any@50%", "any@90%", "any@97.5%", "any@3%", "any@0%",
)  # fmt: skip


def packed(text: str, shape: tuple[int, int], seed: int = 0, dtype: str = "float32") -> Packed:
    """Return a random weight pruned to the pattern and packed."""
    pattern = patterns.parse(text)
    weight = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    mask = patterns.mask(pattern, np.abs(weight))
    return pack(cast(np.where(mask, weight, 0).astype(np.float32), dtype), pattern, mask, dtype=dtype)


def cast(weight: np.ndarray, dtype: str) -> np.ndarray:
    """Return a float32 array in the storage of a value type; bfloat16 by truncation."""
    return (weight.view(np.uint32) >> 16).astype(np.uint16) if dtype == "bfloat16" else weight.astype(dtype)


def takes(text: str, shape: tuple[int, int]) -> bool:
    """Return True if a weight of this shape can take the pattern."""
    return patterns.parse(text).refusal(shape) is None


def model(shapes: Iterable[tuple[int, int]] = ((32, 64), (5, 37), (1, 3), (7, 130))) -> dict[str, StoredWeight]:
    """Return one weight for every pattern and shape that fit together."""
    return {
        f"layer{i}.of{n}x{k}.weight": StoredWeight(packed(text, (n, k), seed=i))
        for i, text in enumerate(EVERY_PATTERN)
        for n, k in shapes
        if takes(text, (n, k))
    }


def same(left: Packed, right: Packed) -> bool:
    """Return True if two packed weights have the same arrays with the same types."""
    a, b = left.arrays(), right.arrays()
    return (
        (left.pattern, left.shape, left.dtype, left.tile) == (right.pattern, right.shape, right.dtype, right.tile)
        and a.keys() == b.keys()
        and all(a[k].dtype == b[k].dtype and a[k].tobytes() == b[k].tobytes() for k in a)
    )
