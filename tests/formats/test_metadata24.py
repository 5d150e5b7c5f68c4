"""Metadata of sparse tensor cores: the vectorised layout equals that of a plain loop, and every word can be read back."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tilewright import patterns
from tilewright.errors import FormatError
from tilewright.formats import (
    METADATA_KINDS,
    compress24,
    decode_metadata,
    deinterleave_metadata,
    encode_metadata,
    interleave_metadata,
    pack,
    reorder_metadata,
    restore_metadata,
)

KINDS = sorted(METADATA_KINDS)


def random_mask(kind, outputs, words, seed, fill=True):
    """Return a mask that the hardware supports; without `fill`, some groups keep less than half."""
    of, rng = METADATA_KINDS[kind], np.random.default_rng(seed)
    units = of.group // of.unit
    scores = rng.random((outputs, words * of.covers // of.group, units))
    mask = np.argsort(np.argsort(scores, axis=2), axis=2) < units // 2
    if not fill:
        mask &= rng.random(mask.shape) < 0.6
    return np.repeat(mask, of.unit, axis=2).reshape(outputs, -1)


def literal_memory(mask, kind):
    """Return the flat memory layout, computed from its description one element at a time."""
    bits = {"float16": 16, "bfloat16": 16, "tf32": 32, "int8": 8, "float8": 8, "int4": 4}[kind]
    step = {32: 2, 16: 4, 8: 4, 4: 8}[bits]
    wide = bits >= 16  # 16-bit words
    outputs, inputs = mask.shape
    covers = 256 // bits
    memory = [None] * (outputs * (inputs // covers))
    for m in range(outputs):
        for column in range(inputs // covers):
            word = 0
            for i in range(0, covers, step):
                group = [bool(mask[m, column * covers + i + j]) for j in range(step)]
                if bits == 4:
                    found = [j for j in range(4) if group[2 * j] or group[2 * j + 1]]
                elif bits == 32:
                    found = [half for j in range(2) if group[j] for half in (2 * j, 2 * j + 1)]
                    found = found or [0, 1]
                else:
                    found = [j for j in range(4) if group[j]]
                for free in range(4):
                    if len(found) < 2 and free not in found:
                        found.append(free)
                first, second = sorted(found)
                word |= (first | second << 2) << (i // step * 4)
            block, spread = (32, 4) if wide else (16, 2)
            row = m // block * block + (m % 8) * spread + (m % block) // 8
            target = column
            if row % 2 == 0 and column % 2 == 1:
                row, target = row + 1, column - 1
            elif row % 2 == 1 and column % 2 == 0:
                row, target = row - 1, column + 1
            memory[target // 2 * outputs * 2 + row * 2 + target % 2] = word
    assert None not in memory  # the rule moves words without losing any
    return memory


@given(st.sampled_from(KINDS), st.integers(1, 3), st.integers(1, 3), st.integers(0, 99), st.booleans())
@example("tf32", 1, 1, 0, False)
@example("int4", 1, 1, 0, False)
def test_the_memory_is_the_literal_one(kind, blocks, pairs, seed, fill):
    outputs = blocks * (32 if METADATA_KINDS[kind].word == 16 else 16)
    mask = random_mask(kind, outputs, 2 * pairs, seed, fill)
    words = encode_metadata(mask, kind)
    memory = interleave_metadata(reorder_metadata(words))
    assert memory.dtype == METADATA_KINDS[kind].words
    assert memory.tolist() == literal_memory(mask, kind)
    np.testing.assert_array_equal(restore_metadata(deinterleave_metadata(memory, outputs)), words)


@given(st.sampled_from(KINDS), st.integers(1, 5), st.integers(1, 3), st.integers(0, 99), st.booleans())
def test_masks_read_back(kind, outputs, words, seed, fill):
    mask = random_mask(kind, outputs, words, seed, fill)
    back = decode_metadata(encode_metadata(mask, kind), kind)
    assert (back >= mask).all()
    assert (back.reshape(outputs, -1, METADATA_KINDS[kind].group).sum(axis=2) * 2 == METADATA_KINDS[kind].group).all()
    if fill:
        np.testing.assert_array_equal(back, mask)


@given(st.sampled_from(KINDS), st.integers(1, 5), st.integers(1, 3), st.integers(0, 99), st.booleans())
def test_weights_read_back(kind, outputs, words, seed, fill):
    mask = random_mask(kind, outputs, words, seed, fill)
    drawn = np.random.default_rng(seed).integers(1, 8, mask.shape)  # no zeros, so that kept elements are visible
    weight = np.where(mask, drawn, 0).astype(METADATA_KINDS[kind].storage)
    for held in (compress24(weight, kind), compress24(drawn.astype(weight.dtype), kind, mask)):
        assert held.values.shape == (outputs, mask.shape[1] // 2)
        np.testing.assert_array_equal(held.expand(), weight)


def test_words_known_by_hand():
    mask = np.zeros((1, 16), dtype=bool)
    mask[0, [0, 1, 4, 7, 10, 11, 13, 14]] = True
    assert encode_metadata(mask, "float16").tolist() == [[0b1001_1110_1100_0100]]
    pairs = np.tile(np.array([0, 0, 1, 1, 0, 0, 1, 1], dtype=bool), (1, 8))  # pairs 1 and 3 of every group
    assert encode_metadata(pairs, "int4").tolist() == [[0xDDDDDDDD]]
    halves = np.array([[1, 0, 0, 1, 1, 0, 0, 1]], dtype=bool)
    assert encode_metadata(halves, "tf32").tolist() == [[0xE4E4]]


@pytest.mark.parametrize(
    ("kind", "dense", "sparse", "saving"),
    [
        ("float16", 64, 36, 0.4375), ("bfloat16", 64, 36, 0.4375), ("int8", 32, 20, 0.375),
        ("float8", 32, 20, 0.375), ("int4", 32, 20, 0.375), ("tf32", 64, 36, 0.4375),
    ],
)  # fmt: skip
def test_storage_is_that_of_the_table(kind, dense, sparse, saving):
    of = METADATA_KINDS[kind]
    assert of.group_bits[0] == dense
    assert sum(of.group_bits[1:]) == sparse
    mask = random_mask(kind, 32, 4, 0)
    held = compress24(mask.astype(of.storage), kind)
    assert held.nbytes * 8 == mask.size * of.bits * sparse // dense
    assert 1 - held.nbytes * 8 / (mask.size * of.bits) == saving


@pytest.mark.parametrize(
    ("text", "dtype", "kind"),
    [("2:4", "float16", "float16"), ("1:2", "float32", "tf32"), ("2:4", "bfloat16", "bfloat16")],
)
def test_packed_weights_are_taken_as_they_are(text, dtype, kind):
    pattern = patterns.parse(text)
    weight = np.random.default_rng(0).standard_normal((32, 64)).astype(np.float32)
    mask = patterns.mask(pattern, np.abs(weight))
    weight = np.where(mask, weight, 0).astype(np.float32)
    stored = (weight.view(np.uint32) >> 16).astype(np.uint16) if dtype == "bfloat16" else weight.astype(dtype)
    packed = pack(stored, pattern, mask, dtype=dtype)
    held = compress24(packed, kind)
    np.testing.assert_array_equal(held.expand(), packed.unpack())
    np.testing.assert_array_equal(held.values.ravel(), packed.values)
    assert len(held.memory()) == held.words.size
    np.testing.assert_array_equal(encode_metadata(packed, kind), held.words)


def test_refusals_say_what_the_hardware_needs():
    with pytest.raises(
        FormatError,
        match="float16 weight has 40 inputs, which is not a multiple of the 16 of a metadata word; pad K with zeros to 48",
    ):
        encode_metadata(np.zeros((32, 40), dtype=bool), "float16")
    crowded = np.zeros((3, 64), dtype=bool)
    crowded[2, 4:7] = True
    with pytest.raises(
        FormatError, match="keeps 2 of 4 elements in int8, but output 2 keeps 3 in the group at input 4"
    ):
        encode_metadata(crowded, "int8")
    spread = np.tile(np.array([1, 0, 1, 0, 1, 0, 0, 0], dtype=bool), (1, 8))  # 3 of 8, but in 3 pairs
    with pytest.raises(FormatError, match="keeps 2 of 4 pairs in int4, but output 0 keeps 3"):
        encode_metadata(spread, "int4")
    with pytest.raises(FormatError, match="keeps 1 of 2 elements in tf32"):
        encode_metadata(np.ones((1, 8), dtype=bool), "tf32")
    words = encode_metadata(np.zeros((48, 32), dtype=bool), "float16")
    with pytest.raises(
        FormatError, match="48 outputs x 2 words cannot be reordered: 16-bit words need outputs in multiples of 32"
    ):
        reorder_metadata(words)
    with pytest.raises(FormatError, match="32-bit words need outputs in multiples of 16 and an even number of words"):
        interleave_metadata(np.zeros((16, 3), dtype=np.uint32))
    with pytest.raises(FormatError, match="output 0, group 1 has the positions 3 and 0; they must ascend"):
        decode_metadata(np.array([[0x4434]], dtype=np.uint16), "float16")
    with pytest.raises(FormatError, match="must be 0 and 1, or 2 and 3"):
        decode_metadata(np.array([[0x444C]], dtype=np.uint16), "tf32")
    with pytest.raises(FormatError, match="unknown sparse tensor core type 'fp16'; expected one of float16, bfloat16"):
        encode_metadata(crowded, "fp16")
    with pytest.raises(FormatError, match="must be a float16 matrix, got float32"):
        compress24(np.zeros((1, 16), dtype=np.float32), "float16")
    with pytest.raises(FormatError, match="int4 holds -8 to 7, but the weight ranges from 0 to 9"):
        compress24(np.array([[9] + [0] * 63], dtype=np.int8), "int4")
    with pytest.raises(FormatError, match="metadata of int8 must be uint32"):
        decode_metadata(words, "int8")
    with pytest.raises(FormatError, match="words do not fit 5 outputs"):
        deinterleave_metadata(np.zeros(32, dtype=np.uint16), 5)


@pytest.mark.parametrize(("inside", "outside"), [(7, 8), (-8, -9)])
def test_int4_ends_where_four_bits_do(inside, outside):
    weight = np.zeros((1, 64), dtype=np.int8)
    weight[0, 0] = inside
    np.testing.assert_array_equal(compress24(weight, "int4").expand(), weight)
    weight[0, 0] = outside
    low, high = sorted((0, outside))
    with pytest.raises(FormatError, match=f"int4 holds -8 to 7, but the weight ranges from {low} to {high}"):
        compress24(weight, "int4")
    np.testing.assert_array_equal(compress24(weight, "int8").expand(), weight)  # it would fit in a byte


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "int8", "tf32"])
def test_memory_is_what_torch_hands_to_its_sparse_tensor_core_kernels(kind):
    torch = pytest.importorskip("torch")
    outside = pytest.importorskip("torch.sparse._semi_structured_conversions")
    of = METADATA_KINDS[kind]
    mask = random_mask(kind, 96, 6, 1)
    drawn = np.random.default_rng(2).integers(1, 100, mask.shape)
    weight = torch.from_numpy(np.where(mask, drawn, 0)).to(torch.float32 if kind == "tf32" else getattr(torch, kind))
    values, memory = outside.sparse_semi_structured_from_dense_cutlass(weight)
    stored = weight.view(torch.uint16).numpy() if kind == "bfloat16" else weight.numpy()
    held = compress24(stored, kind)
    assert held.memory().tolist() == memory.numpy().reshape(-1).view(of.words).tolist()
    theirs = values.view(torch.uint16) if kind == "bfloat16" else values
    np.testing.assert_array_equal(held.values, theirs.numpy())
