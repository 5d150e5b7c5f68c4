"""The layouts of other tools, with those tools as independent readers and writers."""

import json
import warnings

import numpy as np
import pytest
from samples import packed, same

from tilewright.errors import FormatError
from tilewright.formats import StoredWeight, pack, read_checkpoint, write_checkpoint
from tilewright.formats.interchange import export_dense, export_sparse24, import_sparse24
from tilewright.patterns import NM, as_matrix

with warnings.catch_warnings():
    # That package imports parts of torch that torch has deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    import torch
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.compressors.sparse_compressors.sparse_24_bitmask import Sparse24BitMaskTensor
    from compressed_tensors.config import SparsityCompressionConfig
    from safetensors.torch import load_file, save_file

TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
BIAS = np.arange(6, dtype=np.float32)


def tensor_of(array: np.ndarray, dtype: str) -> torch.Tensor:
    """A NumPy array in the storage of a value type as a torch tensor."""
    return (
        torch.from_numpy(array.view(np.int16)).view(torch.bfloat16) if dtype == "bfloat16" else torch.from_numpy(array)
    )


def outside_config(folder, **changes):
    sparsity = {"format": "sparse-24-bitmask", "sparsity_structure": "2:4", "targets": ["Linear"], "ignore": []}
    block = {"quant_method": "compressed-tensors", "sparsity_config": sparsity, **changes}
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "quantization_config": block}))


def write_outside(folder, weight: torch.Tensor, **changes):
    """A checkpoint written by compressed-tensors' own compressor."""
    parts = Sparse24BitMaskTensor.from_dense(weight).dict("layer.fc.weight")
    parts |= changes.pop("tensors", {})
    save_file({**parts, "layer.fc.bias": torch.from_numpy(BIAS)}, folder / "model.safetensors")
    outside_config(folder, **changes)


@pytest.mark.parametrize("dtype", list(TYPES))
@pytest.mark.parametrize("shape", [(6, 8), (5, 20), (3, 36)])
def test_what_compressed_tensors_writes_we_read(dtype, shape, tmp_path):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(TYPES[dtype])
    write_outside(tmp_path, weight)
    back = import_sparse24(tmp_path)
    stored = back.weights["layer.fc.weight"].packed
    keep = stored.mask()
    assert stored.pattern == NM(2, 4)
    assert stored.dtype == dtype
    assert (keep.reshape(-1, 4).sum(axis=1) == 2).all()
    expected = torch.where(torch.from_numpy(keep), weight, 0)
    assert torch.equal(tensor_of(stored.unpack(), dtype), expected)
    assert weight.abs().reshape(-1, 4).topk(2).values.float().sum() == pytest.approx(
        expected.abs().float().sum().item(), rel=1e-3
    )
    np.testing.assert_array_equal(back.dense["layer.fc.bias"].array(), BIAS)
    assert back.config == {"model_type": "llama"}
    write_checkpoint(tmp_path / "ours", back.weights, back.dense, back.config)
    assert same(read_checkpoint(tmp_path / "ours").weights["layer.fc.weight"].packed, stored)


@pytest.mark.parametrize("dtype", list(TYPES))
@pytest.mark.parametrize("text", ["2:4", "2:4x4", "2:4t"])
def test_what_we_write_compressed_tensors_reads(dtype, text, tmp_path):
    weight = packed(text, (8, 24), 1, dtype)
    export_sparse24(
        tmp_path, {"layer.fc.weight": StoredWeight(weight)}, {"layer.fc.bias": BIAS}, {"model_type": "llama"}
    )
    config = json.loads((tmp_path / "config.json").read_text())
    sparsity = SparsityCompressionConfig.load_from_registry(
        config["quantization_config"]["sparsity_config"]["format"], **config["quantization_config"]["sparsity_config"]
    )
    reader = BaseCompressor.load_from_registry("sparse-24-bitmask", config=sparsity)
    read = dict(reader.decompress(str(tmp_path)))
    assert torch.equal(read["layer.fc.weight"], tensor_of(weight.unpack(), dtype))
    assert torch.equal(read["layer.fc.bias"], torch.from_numpy(BIAS))
    assert (sparsity.global_sparsity, sparsity.targets, config["model_type"]) == (0.5, ["layer.fc"], "llama")


def test_ours_and_theirs_are_the_same_bytes(tmp_path):
    """Both tools write the same three tensors for the same weight."""
    (tmp_path / "theirs").mkdir()
    weight = packed("2:4", (6, 20), 2)
    write_outside(tmp_path / "theirs", torch.from_numpy(weight.unpack()))
    export_sparse24(tmp_path / "ours", {"layer.fc.weight": StoredWeight(weight)}, {"layer.fc.bias": BIAS}, {})
    theirs, ours = load_file(tmp_path / "theirs/model.safetensors"), load_file(tmp_path / "ours/model.safetensors")
    assert theirs.keys() == ours.keys()
    assert all(theirs[k].dtype == ours[k].dtype and torch.equal(theirs[k], ours[k]) for k in theirs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"quant_method": "gptq"},
            r"quantization_config must name the method compressed-tensors and its sparsity_config the format",
        ),
        (
            {"sparsity_config": {"format": "sparse-bitmask"}},
            r"must name .* sparse-24-bitmask, got .*; only that layout can be",
        ),
        ({"sparsity_config": None}, r"only that layout can be imported"),
        (
            {"config_groups": {"group_0": {}}},
            r"the model is quantized as well as sparse; only unquantized 2:4 weights can be imported",
        ),
    ],
)
def test_other_layouts_are_refused(changes, message, tmp_path):
    write_outside(tmp_path, torch.randn(6, 8), **changes)
    with pytest.raises(FormatError, match=message):
        import_sparse24(tmp_path)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {"bitmask": torch.full((6, 1), 0x77, dtype=torch.uint8)},
            r"bitmask is not 2:4: output 0, group 0 keeps 3 of 4",
        ),
        (
            {"bitmask": torch.zeros(6, 2, dtype=torch.uint8)},
            r"bitmask is U8 of \[6, 2\], but for 6 x 8 it must be U8 of \[6, 1\]",
        ),
        (
            {"bitmask": torch.zeros(6, 1, dtype=torch.int8)},
            r"bitmask is I8 of \[6, 1\], but for 6 x 8 it must be U8 of \[6, 1\]",
        ),
        ({"compressed": torch.zeros(6, 3)}, r"compressed is F32 of \[6, 3\], but for 6 x 8 it must be F32 of \[6, 4\]"),
        (
            {"compressed": torch.zeros(6, 4, dtype=torch.float64)},
            r"values are F64, but only F32, F16, BF16 can be imported",
        ),
        (
            {"shape": torch.tensor([[6], [7]])},
            r"the weight is 6 x 7; sides must be at least 1 and inputs a multiple of 4",
        ),
        ({"shape": torch.tensor([[6], [1 << 62]])}, r"the weight is 6 x 4611686018427387904; sides"),
        ({"shape": torch.tensor([6, 8, 1])}, r"shape must be I64 of \[2, 1\], got I64 of \[3\]"),
        ({"weight": torch.zeros(6, 8)}, r"the weight of 'layer\.fc' is stored both compressed and dense"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(tensors, message, tmp_path):
    write_outside(tmp_path, torch.randn(6, 8), tensors={f"layer.fc.{name}": tensor for name, tensor in tensors.items()})
    with pytest.raises(FormatError, match=message):
        import_sparse24(tmp_path)


@pytest.mark.parametrize("missing", ["bitmask", "shape", "compressed"])
def test_incomplete_weights_are_refused(missing, tmp_path):
    write_outside(tmp_path, torch.randn(6, 8))
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors[f"layer.fc.{missing}"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(FormatError, match=r"belong together, but one is missing|has no matching \.compressed tensor"):
        import_sparse24(tmp_path)


@pytest.mark.parametrize(
    ("name", "weight", "message"),
    [
        (
            "fc.weight",
            StoredWeight(packed("1:4", (4, 8))),
            r"'fc\.weight' is 1:4 of \[4, 8\] and cannot be exported: sparse-24-bitmask",
        ),
        (
            "fc.weight",
            StoredWeight(packed("2:4", (4, 10))),
            r"holds 2:4 with inputs a multiple of 4; use export_dense for the rest",
        ),
        ("fc.kernel", StoredWeight(packed("2:4", (4, 8))), r"'fc\.kernel' \(linear\) cannot be exported"),
        ("fc.weight", StoredWeight(packed("2:4", (4, 8)), "transposed", (8, 4)), r"\(transposed\) cannot be exported"),
    ],
)
def test_what_the_layout_cannot_hold_is_refused_before_writing(name, weight, message, tmp_path):
    with pytest.raises(FormatError, match=message):
        export_sparse24(tmp_path / "out", {name: weight}, {}, {})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("exporter", [export_sparse24, export_dense])
def test_names_taken_twice_are_refused(exporter, tmp_path):
    weights = {"fc.weight": StoredWeight(packed("2:4", (4, 8)))}
    with pytest.raises(FormatError, match=r"'fc\.weight'"):
        exporter(tmp_path / "out", weights, {"fc.weight": BIAS}, {})


def test_dense_export_is_an_ordinary_checkpoint(tmp_path):
    kernel = np.random.default_rng(0).standard_normal((6, 4, 3, 3)).astype(np.float32)
    keep = np.tile([True, False, True, False], kernel.size // 4).reshape(6, 36)
    matrix = np.where(keep, as_matrix(kernel, "conv"), 0)
    brain = packed("tew4@70%+5%", (8, 12), 0, "bfloat16")
    weights = {
        "conv.weight": StoredWeight(pack(matrix, NM(2, 4), keep), "conv", kernel.shape),
        "fc.weight": StoredWeight(brain),
    }
    export_dense(tmp_path, weights, {"bias": BIAS}, {"model_type": "mine", "quantization_config": {}})
    read = load_file(tmp_path / "model.safetensors")
    assert read["conv.weight"].shape == kernel.shape
    np.testing.assert_array_equal(as_matrix(read["conv.weight"].numpy(), "conv"), matrix)
    assert torch.equal(read["fc.weight"], tensor_of(brain.unpack(), "bfloat16"))
    np.testing.assert_array_equal(read["bias"].numpy(), BIAS)
    assert json.loads((tmp_path / "config.json").read_text()) == {"model_type": "mine"}
