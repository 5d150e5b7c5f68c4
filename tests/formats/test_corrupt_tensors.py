"""Tensors and directories that violate the format, one rule at a time; nothing is allocated because of their claims."""

import json
import os
import tracemalloc

import numpy as np
import pytest
from bending import WEIGHTS, Parts, refused
from samples import packed

from tilewright.errors import FormatError
from tilewright.formats import RawTensor, StoredWeight, read_checkpoint, read_checkpoint_bytes
from tilewright.formats.weight import decode_weight, encode_weight


@pytest.mark.parametrize("suffix", ["values", "index", "rows", "inner", "residual_values", "residual_index"])
def test_missing_and_surplus_tensors(parts, suffix):
    holder = {"inner": "tvw", "rows": "tw"}.get(suffix, "tew")
    name = f"{holder}.weight.{suffix}"
    data = parts.data.pop(name)
    entry = parts.header.pop(name)
    refused(parts.files(), rf"parameter '{holder}\.weight': expected the tensors .*{suffix}.*, but the checkpoint has ")
    parts.header[name], parts.data[name] = entry, data
    read_checkpoint_bytes(parts.files())
    if suffix not in ("values", "index"):
        parts.put(f"nm.weight.{suffix}", b"\0")
        refused(parts.files(), r"parameter 'nm\.weight': expected the tensors index, values, but the checkpoint has ")


def test_a_parameter_both_packed_and_dense(parts):
    parts.config["quantization_config"]["format_version"] = 1
    for name in WEIGHTS:
        parts.header.pop(f"{name}.weight")
        parts.data.pop(f"{name}.weight")
    read_checkpoint_bytes(parts.files())
    parts.put("nm.weight", b"\0")
    refused(parts.files(), r"the parameter 'nm\.weight' is stored both packed and dense, but may be stored only once")
    parts.put("nm.weight", b"", "F32")
    refused(parts.files(), r"the parameter 'nm\.weight' is stored both packed and dense, but may be stored only once")


@pytest.mark.parametrize("name", list(WEIGHTS))
@pytest.mark.parametrize(
    ("data", "dtype", "what"),
    [
        (None, "", "is missing"),
        (b"", "U8", r"is U8 of shape \[0\]"),
        (b"", "F16", r"is F16 of shape \[0\]"),
        (bytes(4), "F32", r"is F32 of shape \[1\]"),
        (bytes(160), "F32", r"is F32 of shape \[40\]"),
    ],
)
def test_a_guard_that_is_none(parts, name, data, dtype, what):
    parts.header.pop(f"{name}.weight")
    parts.data.pop(f"{name}.weight")
    if data is not None:
        parts.put(f"{name}.weight", data, dtype)
    refused(
        parts.files(),
        rf"the packed parameter '{name}\.weight' needs an empty F32 tensor of the same name and shape \[0\], but it {what}",
    )


def test_a_guard_with_two_axes(parts):
    parts.header["nm.weight"]["shape"] = [0, 10]
    refused(parts.files(), r"needs an empty F32 tensor .* but it is F32 of shape \[0, 10\]")


@pytest.mark.parametrize(
    "tensor", [*(f"{n}.weight.index" for n in WEIGHTS), "tvw.weight.inner", "tew.weight.residual_index"]
)
@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d + b"\0", lambda d: b"", lambda d: d * 3])
def test_index_of_another_length(parts, tensor, change):
    parts.put(tensor, change(bytes(parts.data[tensor])))
    refused(parts.files(), rf"tensor '{tensor}': \d+ bytes, but .* take \d+")


@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d + b"\0"])
def test_rows_of_another_length(parts, change):
    parts.put("tw.weight.rows", change(bytes(parts.data["tw.weight.rows"])))
    refused(
        parts.files(),
        r"tensor 'tw\.weight\.rows' has [02] bytes for \d of 8 outputs; expected 1 bytes and fewer than 8 outputs",
    )


@pytest.mark.parametrize("name", list(WEIGHTS))
def test_values_of_another_length(parts, name):
    parts.put(f"{name}.weight.values", bytes(parts.data[f"{name}.weight.values"]) + bytes(4), "F32")
    refused(parts.files(), rf"tensor '{name}\.weight\.values' has \d+ values, but the index calls for \d+")


@pytest.mark.parametrize("suffix", ["index", "values", "inner"])
def test_tensors_of_another_type_or_rank(parts, suffix):
    name = f"tvw.weight.{suffix}"
    parts.put(name, bytes(parts.data[name]), "I8")
    refused(parts.files(), rf"'{name}' must be one-dimensional (U8|F32), got I8 of shape \[\d+\]")
    parts.header[name].update(dtype="U8", shape=[1, len(parts.data[name])])
    refused(parts.files(), rf"'{name}' must be one-dimensional (U8|F32), got U8 of shape \[1, \d+\]")


def test_a_combination_number_that_does_not_exist(parts):
    """Group 0 of 2:4 has 6 combinations in 3 bits, and 7 is not one of them."""
    parts.data["nm.weight.index"][0] |= 7
    refused(parts.files(), r"'nm\.weight\.index': group 0 has combination number 7, but those of 2 of 4 are 0 to 5")


def test_an_inner_number_that_does_not_exist(parts):
    parts.data["tvw.weight.inner"][0] |= 7
    refused(parts.files(), r"'tvw\.weight\.inner': group 0 has combination number 7, but those of 2 of 4 are 0 to 5")


@pytest.mark.parametrize("tensor", ["holes.weight.index", "any.weight.index", "tvw.weight.inner", "block.weight.index"])
def test_padding_bits_must_be_zero(parts, tensor):
    parts.data[tensor][-1] |= 0x80
    refused(
        parts.files(),
        rf"'{tensor}': the last byte is 0x[0-9a-f]+, but only its low \d bits may be set|bits are set, expected",
    )


@pytest.mark.parametrize(
    "tensor", ["bits.weight.index", "tw.weight.rows", "tew.weight.residual_index", "any.weight.index"]
)
def test_another_number_of_bits_than_announced(parts, tensor):
    data = parts.data[tensor]
    byte = next(i for i in range(len(data) - 1, -1, -1) if data[i])
    data[byte] &= data[byte] - 1
    refused(parts.files(), rf"'{tensor}': \d+ bits are set(, expected \d+| for \d+ stored outputs)")


def test_positions_that_do_not_ascend(parts):
    """Two entries of a `sorted` set in one bucket of the unary part, their low parts exchanged."""
    entry = parts.entry("any")
    low = min(10, 5, (320 // entry["count"]).bit_length() - 1)
    data = parts.data["any.weight.index"]
    cut = (entry["count"] * low + 7) // 8
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8)[cut:], bitorder="little")
    pair = next(int(i) for i in np.flatnonzero(bits[:-1] & bits[1:]))
    first = int(bits[:pair].sum())
    fields = np.unpackbits(np.frombuffer(data, dtype=np.uint8)[:cut], bitorder="little")
    grid = fields[: entry["count"] * low].reshape(-1, low)
    grid[first : first + 2] = grid[first : first + 2][::-1]
    data[:cut] = np.packbits(fields, bitorder="little").tobytes()
    refused(
        parts.files(),
        r"'any\.weight\.index': entry \d+ is position \d+ after position \d+; positions must ascend strictly",
    )


def test_a_position_beyond_the_last():
    """The last of 3 x 3 positions is 8; its low part has 1 bit, and 9 is in the same bucket."""
    weight = packed("any@90%", (3, 3))
    entry, tensors = encode_weight("w", StoredWeight(weight))
    entry["encoding"] = "sorted"
    # e = 1, l = min(10, floor_log2(3), floor_log2(9)) = 1: low part 1, then high part 8 // 2 = 4 makes position 9
    tensors["w.index"] = RawTensor("U8", (2,), np.array([1, 1 << 4], dtype=np.uint8))
    with pytest.raises(FormatError, match=r"'w\.index': the last position is 9, but there are only 9"):
        decode_weight("w", entry, tensors, "config.json")


def test_a_group_with_too_many(parts):
    """3:100 is stored as a set; moving an element across the group boundary keeps the count but violates the pattern."""
    name = "far.weight"
    entry = parts.entry("far")
    bitmap = np.zeros(4 * 130, dtype=bool)
    for tile in range(4):
        bitmap[tile * 130 + np.array([0, 1, 100, 101, 102, 103])] = True
    entry["encoding"] = "bitmap"
    parts.put(f"{name}.index", np.packbits(bitmap, bitorder="little").tobytes())
    refused(parts.files(), r"'far\.weight\.index': group 0 of tile 0 keeps 2 columns, but 3:100 keeps 3")


def test_a_bitmap_of_n_of_m_with_a_group_too_full():
    """32:64x4 is stored as a bitmap; moving a bit to the next group keeps the count but violates the pattern."""
    entry, tensors = encode_weight("w", StoredWeight(packed("32:64x4", (8, 128))))
    assert entry["encoding"] == "bitmap"
    flags = np.unpackbits(tensors["w.index"].data, bitorder="little")
    flags[np.flatnonzero(flags[:64])[0]] = 0
    flags[64 + np.flatnonzero(flags[64:128] == 0)[0]] = 1
    tensors["w.index"] = RawTensor("U8", tensors["w.index"].shape, np.packbits(flags, bitorder="little"))
    with pytest.raises(FormatError, match=r"'w\.index': group 0 of tile 0 keeps 31 columns, but 32:64x4 keeps 32"):
        decode_weight("w", entry, tensors, "config.json")


def test_an_element_in_a_tile_and_in_the_residual(parts):
    """The residual's positions are rewritten to the first positions of the tiles."""
    weight = read_checkpoint_bytes(parts.files()).weights["tew.weight"].packed
    row = 0 if weight.rows is None else int(weight.rows[0])
    own = {row * 20 + int(weight.columns[0])}
    free = np.flatnonzero(~weight.mask().ravel())
    chosen = sorted([*own, *free[: len(weight.residual.values) - 1].tolist()])
    flags = np.zeros(160, dtype=bool)
    flags[chosen] = True
    parts.entry("tew")["residual"]["encoding"] = "bitmap"
    parts.put("tew.weight.residual_index", np.packbits(flags, bitorder="little").tobytes())
    refused(
        parts.files(),
        r"the element at output \d+, input \d+ is stored in a tile and in the residual, but may be stored only once",
    )


HUGE = (1 << 31) - 1


@pytest.mark.parametrize("name", list(WEIGHTS))
@pytest.mark.parametrize("side", [0, 1])
def test_absurd_shapes(parts, name, side):
    shape = parts.entry(name)["shape"]
    shape[side] = HUGE
    parts.entry(name)["original_shape"] = list(shape)
    refused(parts.files(), r"tensor '\w+\.weight\.(values|index|rows)'")


@pytest.mark.parametrize("encoding", ["bitmap", "sorted", "holes"])
@pytest.mark.parametrize("pattern", ["tw1024@50%", "any@99%", "block1024x1024@50%", "tvw1024@50%"])
@pytest.mark.parametrize("shape", [[HUGE, HUGE], [HUGE, 1], [1, HUGE], [1 << 20, 1 << 20]])
def test_absurd_shapes_with_nothing_kept(parts, encoding, pattern, shape):
    """Nothing is stored, so only the length of the index can refute the claim; no length up to 40 bytes supports it."""
    parts.modules.clear()
    parts.modules["w"] = {"weight": {
        "pattern": pattern, "dtype": "float32", "shape": shape, "layout": "linear", "original_shape": shape,
        "encoding": encoding, "count": 0,
    }}  # fmt: skip
    parts.header.clear()
    parts.data.clear()
    parts.put("w.weight.values", b"", "F32")
    if pattern.startswith("tvw"):
        parts.put("w.weight.inner", b"")
    tracemalloc.start()
    for length in range(41):
        parts.put("w.weight.index", bytes(length))
        with pytest.raises(
            FormatError, match=rf"'w\.weight\.index': {length} bytes, but 0 of \d+ positions as \w+ take \d+"
        ):
            read_checkpoint_bytes(parts.files())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_absurd_residual(parts):
    parts.entry("tew")["residual"]["count"] = 1 << 60
    refused(parts.files(), r"the entry announces \d+ elements, but residual_values has")


def test_directories_that_are_none(tmp_path):
    with pytest.raises(
        FormatError, match=r"nowhere does not exist; a checkpoint is a directory with config\.json and model"
    ):
        read_checkpoint(tmp_path / "nowhere")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FormatError, match=r"file is a file; a checkpoint is a directory"):
        read_checkpoint(tmp_path / "file")
    with pytest.raises(
        FormatError, match=r"config\.json cannot be read: No such file or directory; check that the checkpoint is"
    ):
        read_checkpoint(tmp_path)


def test_files_that_are_none(good, tmp_path):
    (tmp_path / "config.json").write_bytes(good["config.json"])
    with pytest.raises(FormatError, match=r"model\.safetensors cannot be read: No such file"):
        read_checkpoint(tmp_path)
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(FormatError, match=r"model\.safetensors is not a regular file"):
        read_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(FormatError, match=r"model\.safetensors (is not a regular file|cannot be read: Is a directory)"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "shard",
    ["../evil.safetensors", "/etc/passwd", "a/b.safetensors", "a\\b.safetensors", ".safetensors", "x.bin", "", 3, None],
)
def test_shard_names_that_lead_elsewhere(good, shard):
    index = {"weight_map": {"bias": shard}}
    files = {"config.json": good["config.json"], "model.safetensors.index.json": json.dumps(index).encode()}
    refused(files, r"index\.json: tensor 'bias' is listed in .*; a shard must be a plain file name")


def test_shards_that_disagree_with_their_index(good):
    data = {"one.safetensors": good["model.safetensors"], "config.json": good["config.json"]}
    names = list(Parts(good).header)

    def index(**weight_map):
        return {**data, "model.safetensors.index.json": json.dumps({"weight_map": weight_map}).encode()}

    assert len(read_checkpoint_bytes(index(**dict.fromkeys(names, "one.safetensors"))).weights) == len(WEIGHTS)
    refused(index(**dict.fromkeys(names[1:], "one.safetensors")), r"is in this file, but the index places it in None")
    refused(
        index(**dict.fromkeys([*names, "ghost"], "one.safetensors")),
        r"tensor 'ghost' is not in one\.safetensors, where the",
    )
    refused(
        index(**dict.fromkeys(names, "two.safetensors")),
        r"two\.safetensors is missing; check that the checkpoint is complete",
    )
    refused({**index(), "model.safetensors": b""}, r"the folder has both model\.safetensors and an index of shards")
    refused({**data, "model.safetensors.index.json": b"{}"}, r"weight_map must map tensor names to files, got None")


def test_every_truncation_of_every_file_is_refused(good):
    """No prefix of a checkpoint is a checkpoint."""
    for name, data in good.items():
        for cut in range(0, len(data) - 1, 97):
            with pytest.raises(FormatError):
                read_checkpoint_bytes({**good, name: data[:cut]})
