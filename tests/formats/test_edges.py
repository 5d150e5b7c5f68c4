"""Both sides of the boundaries in reading files and indices."""

import inspect
import mmap

import numpy as np
import pytest

from tilewright.errors import FormatError
from tilewright.formats import pack
from tilewright.formats.atomic import staged
from tilewright.formats.container import _parts
from tilewright.formats.index import decode_columns, encode_columns
from tilewright.formats.sets import SET_ENCODINGS, Grid, decode_set, set_bytes
from tilewright.formats.sources import Directory
from tilewright.patterns import Block, mask


def test_what_a_writer_replaces_is_named():
    kinds = {name: p.kind for name, p in inspect.signature(staged).parameters.items()}
    assert kinds.pop("directory") is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert set(kinds.values()) == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("cols", [1, 2, 3, 4])
@pytest.mark.parametrize("inputs", [12, 13])
@pytest.mark.parametrize("sparsity", [0.25, 0.9])
def test_blocks_of_any_width_are_listed_by_their_first_columns(cols, inputs, sparsity):
    pattern = Block(2, cols, sparsity)
    scores = np.random.default_rng(cols).random((64, inputs)).astype(np.float32) + 0.1
    kept = mask(pattern, scores)
    packed = pack(np.where(kept, scores, 0).astype(np.float32), pattern, kept)
    index = encode_columns(pattern, inputs, packed.pointers, packed.columns)
    blocks = sum(
        len(np.unique(packed.columns[a:b] // cols)) for a, b in zip(packed.pointers, packed.pointers[1:], strict=False)
    )
    assert index.count == blocks
    pointers, columns = decode_columns(pattern, inputs, len(packed.counts), index, len(packed.columns), "here")
    np.testing.assert_array_equal(columns, packed.columns)
    np.testing.assert_array_equal(pointers, packed.pointers)


@pytest.mark.parametrize(("size", "words"), [(0, "0 bytes; a"), (7, "7 bytes; a safetensors file has at least 8")])
def test_a_file_without_a_whole_length_is_short(size, words):
    with pytest.raises(FormatError, match=f"here: {words}"):
        _parts(np.zeros(size, dtype=np.uint8), "here")


def test_a_length_is_all_that_eight_bytes_hold():
    """Eight zeros claim an empty header, which is not JSON; a header longer than the rest of the file is rejected."""
    with pytest.raises(FormatError, match="here, header"):
        _parts(np.zeros(8, dtype=np.uint8), "here")
    data = np.frombuffer(b"\x02\0\0\0\0\0\0\0{}rest", dtype=np.uint8)
    header, payload = _parts(data, "here")
    assert (header, payload.tobytes()) == ({}, b"rest")
    assert _parts(data[:10], "here")[0] == {}
    with pytest.raises(FormatError, match="the header claims 2 bytes; 1 follow"):
        _parts(data[:9], "here")


@pytest.mark.parametrize("encoding", SET_ENCODINGS)
@pytest.mark.parametrize("grid", [Grid(0, 0), Grid(0, 8), Grid(3, 0)])
def test_no_positions_take_no_bytes(encoding, grid):
    assert set_bytes(encoding, 0, grid) == 0
    assert decode_set(encoding, np.zeros(0, np.uint8), 0, grid, "here").tolist() == []


@pytest.mark.parametrize("mapped", [True, False])
def test_a_file_is_mapped_where_that_was_asked_for(tmp_path, mapped):
    (tmp_path / "full").write_bytes(b"abc")
    (tmp_path / "empty").write_bytes(b"")
    source = Directory(tmp_path, mapped)
    data = source.data("full")
    assert data.tobytes() == b"abc"
    assert isinstance(getattr(data.base, "obj", data.base), mmap.mmap) == mapped
    assert source.data("empty").size == 0  # what is empty cannot be mapped
