"""Size on disk: at most 1.05 times the values at 16 bits plus the information in the mask."""

from math import lgamma, log

import numpy as np
import pytest
from samples import packed, takes

from tilewright.formats import Packed, StoredWeight, write_checkpoint
from tilewright.formats.ranks import ranks_bytes
from tilewright.formats.sets import SET_ENCODINGS, Grid, set_bytes
from tilewright.formats.weight import encode_weight
from tilewright.patterns import NM, Block, TileElementWise, TileVectorWise, TileWise

OF_PRACTICE = [
    "1:2", "2:4", "1:4", "4:8", "2:8", "1:8", "8:16", "4:16", "2:16", "1:16", "16:32", "8:32", "4:32", "2:32", "1:32",
    "3:5", "5:7", "1:3", "1:5", "1:9", "1:17", "1:33", "2:5", "64:64", "32:64", "16:64", "8:64", "4:64", "2:64", "1:64", "2:4t",
    "4:8t", "2:4x8", "32:64x4", "1:4x16", "8:64x8",
    "any@0%", "any@1%", "any@3.5%", "any@5%", "any@10%", "any@30%", "any@50%", "any@60%", "any@70%", "any@75%", "any@80%",
    "any@85%", "any@90%", "any@95%", "any@99%",
    "tw1@75%", "tw4@50%", "tw8@75%", "tw16@75%", "tw64@90%", "tw128@50%",
    "tew16@75%+5%", "tew64@75%+1%", "tew64@50%+10%", "tvw4@75%", "tvw64@75%", "tvw16@50%", "tvw64@90%", "tvw16@75%:1:4",
    "block32x32@75%", "block4x4@75%", "block1x16@75%", "block8x1@90%",
]  # fmt: skip


def choose_bits(total: float, kept: float) -> float:
    """log2 of the number of ways to keep `kept` of `total`."""
    return (lgamma(total + 1) - lgamma(kept + 1) - lgamma(total - kept + 1)) / log(2)


def groups_bits(n: int, m: int, length: int) -> float:
    """log2 of the number of n:m masks of `length` neighbours."""
    return length // m * choose_bits(m, n) + choose_bits(length % m, min(n, length % m))


def information(weight: Packed) -> float:
    """log2 of the number of masks that the pattern allows at these counts."""
    pattern, (outputs, inputs) = weight.pattern, weight.shape
    if isinstance(pattern, NM):
        return len(weight.counts) * groups_bits(pattern.n, pattern.m, inputs)
    if isinstance(pattern, Block):
        blocks = -(-outputs // pattern.rows) * -(-inputs // pattern.cols)
        kept = sum(len(np.unique(c // pattern.cols)) for c in np.split(weight.columns, weight.pointers[1:-1]))
        return choose_bits(blocks, kept)
    if not isinstance(pattern, TileWise | TileElementWise | TileVectorWise):
        return choose_bits(outputs * inputs, len(weight.values))
    bits = choose_bits(outputs, weight.stored) + sum(choose_bits(inputs, int(c)) for c in weight.counts)
    if isinstance(pattern, TileVectorWise):
        pairs = zip(weight.counts, weight.widths, strict=True)
        bits += sum(int(w) * groups_bits(pattern.n, pattern.m, int(c)) for c, w in pairs)
    if weight.residual:
        bits += choose_bits(outputs * inputs - len(weight.values), len(weight.residual.values))
    return bits


def bound(weight: Packed) -> float:
    """Bytes of the values at 16 bits plus the information in the mask."""
    return weight.kept * 2 + information(weight) / 8


@pytest.mark.parametrize("text", OF_PRACTICE)
def test_whole_directory_is_within_five_percent_of_the_bound(text, tmp_path):
    weight = packed(text, (768, 768), dtype="bfloat16")
    write_checkpoint(tmp_path, {"fc.weight": StoredWeight(weight)}, {}, {})
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert size <= 1.05 * bound(weight) + 1200, (
        "1200 bytes: the header, config.json and padding of a checkpoint with one weight"
    )


@pytest.mark.parametrize(
    ("text", "shape"), [(t, s) for s in [(384, 1536), (512, 777)] for t in OF_PRACTICE if takes(t, s)]
)
def test_values_and_index_are_within_five_percent_of_the_bound(text, shape):
    weight = packed(text, shape, dtype="float16")
    _, tensors = encode_weight("w", StoredWeight(weight))
    assert sum(len(tensor.data) for tensor in tensors.values()) <= 1.05 * bound(weight)


def test_a_bound_is_a_bound():
    """The bound itself, compared with counts made by hand: 6 masks per group of 2:4, C(16, 4) = 1820 masks of any 4 of 16."""
    assert information(packed("2:4", (3, 8))) == pytest.approx(3 * 2 * np.log2(6))
    assert information(packed("any@75%", (2, 8))) == pytest.approx(np.log2(1820))


def test_ranks_are_within_the_bound_and_shortest_for_every_n_and_m():
    """All 2080 patterns that have no other encoding, at a size where rounding to bytes hides nothing."""
    tiles, groups = 8, 5040
    for m in range(1, 65):
        for n in range(1, m + 1):
            kept = tiles * groups * n
            size = ranks_bytes(tiles * groups, m, n)
            assert 2 * kept + size <= 1.05 * (2 * kept + tiles * groups * choose_bits(m, n) / 8), f"{n}:{m}"
            grid = Grid(tiles, groups * m)
            assert size <= min(set_bytes(encoding, kept, grid) for encoding in SET_ENCODINGS), f"{n}:{m}"


def test_sets_are_within_the_bound_at_every_density():
    """Encoded like `any`: one row of positions, one value each."""
    grid = Grid(64, 4096)
    for kept in range(grid.limit // 1000, grid.limit + 1, 257):
        size = min(set_bytes(encoding, kept, grid) for encoding in SET_ENCODINGS)
        assert 2 * kept + size <= 1.04 * (2 * kept + choose_bits(grid.limit, kept) / 8), kept
