"""Options of `load`: unknown ones are rejected with the closest name, and the requested type is applied."""

import pytest
import torch
from models import bert, gpt2

import tilewright
from tilewright.errors import ArgumentError
from tilewright.runtime import sparse_layers

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    model, place = bert(), tmp_path_factory.mktemp("bert") / "m"
    tilewright.sparsify_(model, "2:4", targets=["encoder.*"])
    tilewright.save(model, place)
    return place


@pytest.mark.parametrize(
    ("option", "nearest"),
    [("atn_implementation", "attn_implementation"), ("dtyp", "dtype"), ("token", "tokens"), ("mesure", "measure")],
)
def test_a_mistyped_option_is_refused_with_the_nearest(folder, option, nearest):
    with pytest.raises(ArgumentError, match=rf"^unknown option of BertModel '{option}'; did you mean '{nearest}'\?"):
        tilewright.load(folder, **{option: "eager"})


def test_an_option_like_nothing_is_refused(folder):
    with pytest.raises(ArgumentError, match=r"^unknown option of BertModel 'zzz'; expected a parameter of load"):
        tilewright.load(folder, zzz=1)


def test_options_of_the_configuration_are_taken(folder):
    model = tilewright.load(folder, measure=False, attn_implementation="eager", layer_norm_eps=0.5)
    assert model.config._attn_implementation == "eager"
    assert model.encoder.layer[0].output.LayerNorm.eps == 0.5


@pytest.mark.parametrize("given", ["bfloat16", torch.bfloat16, "float16", "float32", "auto", None])
def test_the_type_is_honoured(folder, given):
    model = tilewright.load(folder, measure=False, dtype=given)
    expected = DTYPES[str(given).removeprefix("torch.")] if given not in ("auto", None) else torch.float32
    assert model.dtype == model.config.dtype == expected
    assert {p.dtype for n, p in model.named_parameters() if "embeddings" in n or "LayerNorm" in n} == {expected}
    assert len(sparse_layers(model)) == 12
    ids = torch.randint(0, 100, (2, 7), generator=torch.Generator().manual_seed(0))
    y = model(ids).last_hidden_state
    assert y.dtype == expected
    exact = tilewright.load(folder, measure=False)(ids).last_hidden_state
    torch.testing.assert_close(y.float(), exact, atol=0.1, rtol=0.1)


def test_a_type_that_is_none_is_refused(folder):
    with pytest.raises(ArgumentError, match=r"^unknown dtype 'bfloat61'; did you mean 'bfloat16'\? Expected one of"):
        tilewright.load(folder, dtype="bfloat61")


def test_a_measured_model_has_the_type_too(tmp_path):
    model = gpt2()
    tilewright.sparsify_(model, "2:4")
    tilewright.save(model, tmp_path)
    loaded = tilewright.load(tmp_path, dtype="bfloat16")
    assert {p.dtype for p in loaded.parameters() if p.dim() > 1} <= {torch.bfloat16}
    assert loaded(torch.arange(5)[None]).logits.dtype == torch.bfloat16


def test_a_sentence_transformer_refuses_and_honours(tiny_model, tmp_path):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(tiny_model), device="cpu")
    tilewright.sparsify_(model[0].auto_model, "2:4", targets=["encoder.*"])
    tilewright.save(model, tmp_path)
    with pytest.raises(
        ArgumentError, match=r"unknown option of SentenceTransformer 'trust_remote_cod'; did you mean 'trust"
    ):
        tilewright.load(tmp_path, trust_remote_cod=True)
    loaded = tilewright.load(tmp_path, measure=False, dtype="bfloat16", truncate_dim=8)
    assert loaded[0].auto_model.dtype == torch.bfloat16
    assert loaded.encode(["a word"], convert_to_tensor=True).shape == (1, 8)
