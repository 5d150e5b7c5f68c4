"""Whole checkpoints are read back as written, by this package, by the independent reader and by safetensors."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from independent_reader import read_packed
from samples import EVERY_PATTERN, cast, model, packed, same, takes

from tilewright.errors import FormatError
from tilewright.formats import (
    Packed,
    RawTensor,
    StoredWeight,
    is_checkpoint,
    pack,
    read_checkpoint,
    read_checkpoint_bytes,
    write_checkpoint,
)
from tilewright.formats.container import DTYPE_BITS
from tilewright.formats.weight import decode_weight, encode_weight
from tilewright.patterns import NM, Block, TileElementWise, TileVectorWise, TileWise, Unstructured, as_matrix

DENSE = {
    "embeddings.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "norm.num_batches_tracked": np.array(5, dtype=np.int64),
    "flags": np.array([True, False, True]),
    "half": np.array([1.5], dtype=np.float16),
    "empty": np.zeros((0, 4), dtype=np.float64),
    "eight": ("F8_E4M3", (3,), b"\x00\x38\xff"),
    "brain": ("BF16", (), b"\x80\x3f"),
    "scalar": np.float64(2.5).reshape(()),
    "wide": np.arange(4, dtype=">i4"),
    "strided": np.arange(10, dtype=np.uint8)[::2],
}


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A checkpoint with every pattern at several shapes, and its contents."""
    folder, weights = tmp_path_factory.mktemp("checkpoint"), model()
    write_checkpoint(
        folder, weights, DENSE, {"model_type": "mine", "layers": [1, 2]}, recipe={"a": 1}, recipe_hash="f00"
    )
    return folder, weights


def test_every_weight_comes_back_as_it_went(written):
    folder, weights = written
    back = read_checkpoint(folder)
    assert back.weights.keys() == weights.keys()
    assert all(same(weights[name].packed, back.weights[name].packed) for name in weights)
    assert {w.packed.pattern for w in back.weights.values()} >= {NM(2, 4), TileVectorWise(8, 0.8, 3, 7)}


def test_dense_tensors_of_every_type_survive_byte_for_byte(written):
    back = read_checkpoint(written[0]).dense
    assert back.keys() == DENSE.keys()
    for name, given_value in DENSE.items():
        if isinstance(given_value, tuple):
            assert (back[name].dtype, back[name].shape, back[name].data.tobytes()) == given_value
        else:
            assert back[name].shape == given_value.shape
            np.testing.assert_array_equal(back[name].array(), given_value)
    assert back["brain"].array() == 0x3F80
    with pytest.raises(FormatError, match=r"NumPy has no type for F8_E4M3; use the bytes in \.data"):
        back["eight"].array()


def test_config_keeps_its_keys_and_gains_one(written):
    back = read_checkpoint(written[0])
    assert back.config == {"model_type": "mine", "layers": [1, 2]}
    assert (back.recipe, back.recipe_hash) == ({"a": 1}, "f00")
    block = json.loads((written[0] / "config.json").read_text())["quantization_config"]
    assert (block["quant_method"], block["format_version"]) == ("tilewright", 2)
    assert block["modules"]["layer0.of32x64"]["weight"] == {
        "pattern": "2:4", "dtype": "float32", "shape": [32, 64], "layout": "linear", "original_shape": [32, 64],
        "encoding": "rank", "count": 1024,
    }  # fmt: skip


def test_independent_reader_agrees_on_every_pattern(written):
    folder, weights = written
    read = read_packed((folder / "config.json").read_bytes(), (folder / "model.safetensors").read_bytes())
    assert read.keys() == weights.keys()
    for name, weight in weights.items():
        np.testing.assert_array_equal(read[name], weight.packed.unpack(), err_msg=name)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_independent_reader_agrees_on_narrow_values(dtype, tmp_path):
    weights = {
        f"w{i}": StoredWeight(packed(t, (8, 12), i, dtype)) for i, t in enumerate(["2:4", "tew4@70%+5%", "tvw4@75%"])
    }
    write_checkpoint(tmp_path, weights, {}, {})
    read = read_packed((tmp_path / "config.json").read_bytes(), (tmp_path / "model.safetensors").read_bytes())
    for name, weight in weights.items():
        np.testing.assert_array_equal(cast(read[name], dtype), weight.packed.unpack())
        assert same(weight.packed, read_checkpoint(tmp_path).weights[name].packed)


def test_safetensors_reads_what_we_write(written):
    from safetensors import safe_open

    with safe_open(written[0] / "model.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt", "writer": "tilewright"}
        np.testing.assert_array_equal(file.get_tensor("embeddings.weight"), DENSE["embeddings.weight"])
        np.testing.assert_array_equal(
            file.get_tensor("layer0.of32x64.weight.values"), written[1]["layer0.of32x64.weight"].packed.values
        )


def test_tensors_are_written_wide_types_first_and_aligned(written):
    data = (written[0] / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    del header["__metadata__"]
    bits = {name: DTYPE_BITS[entry["dtype"]] for name, entry in header.items()}
    assert length % 8 == 0
    assert list(header) == sorted(header, key=lambda name: (-bits[name], name))
    assert all(entry["data_offsets"][0] * 8 % bits[name] == 0 for name, entry in header.items())


def test_we_read_what_safetensors_writes(written, tmp_path):
    """Its order and padding of tensors differ from those of this package."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(_native(written[0], tmp_path))
    save_file(dict(sorted(tensors.items(), key=lambda item: item[0][::-1])), tmp_path / "model.safetensors")
    back = read_checkpoint(tmp_path)
    assert all(same(w.packed, back.weights[name].packed) for name, w in written[1].items())


def _native(source, folder):
    """Copy the checkpoint with only the types that safetensors' NumPy adapter supports; return the tensor file."""
    back = read_checkpoint(source)
    plain = {name: tensor for name, tensor in back.dense.items() if tensor.dtype not in ("F8_E4M3", "BF16")}
    write_checkpoint(folder, back.weights, plain, back.config)
    return folder / "model.safetensors"


def test_shards_hold_the_same(written, tmp_path):
    weights = written[1]
    write_checkpoint(tmp_path, weights, DENSE, {}, max_shard_bytes=20_000)
    names = sorted(bytes_of(tmp_path))
    assert names[1] == f"model-00001-of-{len(names) - 2:05}.safetensors"
    assert len(names) > 4
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(len(t.data) for t in read_checkpoint(tmp_path).dense.values()) + sum(
        len(t.data) for n, w in weights.items() for t in encode_weight(n, w)[1].values()
    )
    back = read_checkpoint(tmp_path)
    assert all(same(weights[name].packed, back.weights[name].packed) for name in weights)
    assert back.dense.keys() == DENSE.keys()
    for name, file in bytes_of(tmp_path).items():
        assert not name.startswith("model-") or len(file) - 8 - int.from_bytes(file[:8], "little") <= 20_000


def test_bytes_in_memory_read_like_files(written):
    back = read_checkpoint_bytes(bytes_of(written[0]))
    assert all(same(w.packed, back.weights[name].packed) for name, w in written[1].items())


def test_links_to_files_elsewhere_are_followed(written, tmp_path):
    """The cache of a model hub holds snapshots as symbolic links."""
    for path in written[0].iterdir():
        (tmp_path / path.name).symlink_to(path)
    assert read_checkpoint(tmp_path).weights.keys() == written[1].keys()
    assert is_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("layout", "shape"), [("conv", (6, 4, 3, 3)), ("conv", (6, 8)), ("transposed", (16, 6)), ("linear", (6, 16))]
)
def test_layouts_and_original_shapes_survive(layout, shape, tmp_path):
    weight = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    matrix = np.ascontiguousarray(as_matrix(weight, layout))
    keep = np.tile([True, True, False, False], matrix.size // 4).reshape(matrix.shape)
    stored = StoredWeight(pack(np.where(keep, matrix, 0), NM(2, 4), keep), layout, shape)
    write_checkpoint(tmp_path, {"conv.weight": stored}, {}, {})
    back = read_checkpoint(tmp_path).weights["conv.weight"]
    assert (back.layout, back.original_shape) == (layout, shape)
    assert same(back.packed, stored.packed)


def test_values_can_be_written_to_without_touching_the_file(tmp_path):
    write_checkpoint(tmp_path, {"w": StoredWeight(packed("2:4", (4, 8)))}, {}, {})
    before = bytes_of(tmp_path)
    read_checkpoint(tmp_path).weights["w"].packed.values[:] = 7
    assert bytes_of(tmp_path) == before


def test_a_checkpoint_can_be_rewritten_from_its_own_mapping(tmp_path):
    write_checkpoint(tmp_path, {"w": StoredWeight(packed("2:4", (4, 8)))}, DENSE, {"a": 1})
    back = read_checkpoint(tmp_path)
    before = bytes_of(tmp_path)
    write_checkpoint(tmp_path, back.weights, back.dense, back.config)
    assert bytes_of(tmp_path) == before


@st.composite
def _weights(draw) -> Packed:
    """A weight with any mask its pattern allows, including odd shapes and extreme densities."""
    n, k = draw(st.integers(1, 9)), draw(st.integers(1, 40))
    text = draw(st.sampled_from(EVERY_PATTERN).filter(lambda t: takes(t, (n, k))))
    dtype = draw(st.sampled_from(["float32", "float16", "bfloat16"]))
    return packed(text, (n, k), draw(st.integers(0, 2**32)), dtype)


@settings(max_examples=600, deadline=None)
@given(weight=_weights())
def test_any_weight_of_any_pattern_round_trips(weight):
    entry, tensors = encode_weight("a.weight", StoredWeight(weight))
    entry = json.loads(json.dumps(entry))
    assert same(decode_weight("a.weight", entry, tensors, "config.json").packed, weight)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_any_mask_of_a_free_pattern_round_trips(data):
    """Masks no projection would choose: all pruned, all kept, single elements, empty tiles."""
    n, k = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 20))
    free = [TileWise(3, 0.5), TileElementWise(4, 0.5, 0.1), TileVectorWise(2, 0.5), Block(2, 3, 0.5), Unstructured(0.5)]
    pattern = data.draw(st.sampled_from([p for p in free if p.refusal((n, k)) is None]))
    rows = data.draw(st.lists(st.lists(st.booleans(), min_size=k, max_size=k), min_size=n, max_size=n))
    mask = np.array(rows, dtype=bool)
    if not isinstance(pattern, TileElementWise | Unstructured):
        mask = _closest(pattern, mask)
    weight = pack(np.where(mask, 1.5, 0).astype(np.float32), pattern, mask)
    entry, tensors = encode_weight("w", StoredWeight(weight))
    back = decode_weight("w", entry, tensors, "config.json").packed
    assert same(back, weight)
    np.testing.assert_array_equal(back.mask(), weight.mask())


def _closest(pattern, mask: np.ndarray) -> np.ndarray:
    """Share rows within tiles (or blocks), so that an arbitrary mask obeys the pattern."""
    if isinstance(pattern, Block):
        r, c = pattern.rows, pattern.cols
        return np.repeat(np.repeat(mask[::r, ::c], r, axis=0), c, axis=1)[: len(mask), : mask.shape[1]]
    out, some = mask.copy(), np.flatnonzero(mask.any(axis=1))
    for start in range(0, len(some), pattern.tile):
        out[some[start : start + pattern.tile]] = mask[some[start]]
    if isinstance(pattern, TileVectorWise):
        n, m = pattern.n, pattern.m
        for at, row in enumerate(some):
            # The two outputs of a tile alternate, so that together they use every column; a single output uses all it keeps.
            kept = np.flatnonzero(out[row])
            alone = at == len(some) - 1 and at % 2 == 0
            length = np.minimum(m, len(kept) - np.arange(len(kept)) // m * m)
            turn = (np.arange(len(kept)) % m + at % 2 * n) % length < n
            out[row, kept] = np.arange(len(kept)) < n if alone else turn
    return out


@pytest.mark.parametrize(
    ("weights", "dense", "message"),
    [
        ({"w": "2:4"}, {"w": np.zeros(1)}, r"a dense tensor is named 'w', which the format uses for a packed weight"),
        ({"w": "2:4"}, {"w.rows": np.zeros(1)}, r"a dense tensor is named 'w\.rows'"),
        ({}, {"__metadata__": np.zeros(1)}, r"'__metadata__', which the format uses .* or for itself"),
        ({"": "2:4"}, {}, r"'' is not a parameter name; expected a name like encoder\.layer\.0\.query\.weight"),
        ({"a.": "2:4"}, {}, r"'a\.' is not a parameter name"),
        ({}, {"x": np.array(["a"])}, r"tensor 'x': a file cannot hold NumPy's <U1; convert it"),
        ({}, {"x": [1]}, r"tensor 'x': got a list; pass an array or \(type, shape, bytes\)"),
        (
            {},
            {"x": ("F32", (2,), b"abc")},
            r"tensor 'x': a F32 tensor of shape \[2\] takes 64 bits, but got 3 bytes",
        ),
        ({}, {"x": ("F31", (2,), b"abc")}, r"tensor 'x': unknown tensor type 'F31'"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is(weights, dense, message, tmp_path):
    made = {name: StoredWeight(packed(text, (4, 300))) for name, text in weights.items()}
    with pytest.raises(FormatError, match=message):
        write_checkpoint(tmp_path / "out", made, dense, {})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"config": {"a": float("nan")}},
            r"config\.json cannot be written as JSON: .*; pass numbers, strings, lists and mappings",
        ),
        ({"config": {"a": object()}}, r"config\.json cannot be written as JSON"),
        ({"max_shard_bytes": 0}, r"max_shard_bytes is 0; it must be at least 1"),
        ({"extra_files": {"../x": b""}}, r"an extra file is named '\.\./x'; it must be a relative name"),
        ({"extra_files": {"/x": b""}}, r"an extra file is named '/x'"),
        (
            {"extra_files": {"config.json": b""}},
            r"'config\.json'; it must be a relative name that the checkpoint itself does not use",
        ),
        ({"extra_files": {"model-00001-of-00002.safetensors": b""}}, r"does not use"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(kwargs, message, tmp_path):
    arguments = {"config": {}, **kwargs}
    with pytest.raises(FormatError, match=message):
        write_checkpoint(tmp_path / "out", {}, {}, arguments.pop("config"), **arguments)
    assert not (tmp_path / "out").exists()


def test_a_layout_that_does_not_fit_is_refused():
    with pytest.raises(
        FormatError,
        match=r"a transposed parameter of shape \[4, 8\] does not match the weight \[4, 8\]; pass the shape",
    ):
        StoredWeight(packed("2:4", (4, 8)), "transposed", (4, 8))


def test_raw_tensors_check_truth_values():
    with pytest.raises(FormatError, match=r"a BOOL tensor contains the byte 2; only 0 and 1 are valid"):
        RawTensor("BOOL", (2,), np.array([1, 2], dtype=np.uint8)).array()
