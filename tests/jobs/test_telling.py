"""The opening of a report: the model without this machine's paths, and code that runs as it is for every kind of model."""

import shutil

import pytest
import torch

import tilewright
from tilewright import jobs
from tilewright.jobs.models import read_model
from tilewright.jobs.sources import source_of
from tilewright.jobs.tasks import build_task
from tilewright.jobs.telling import about, usage

SMALL = {"hidden_size": 96, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 192}


def classifier():
    from transformers import BertConfig, BertForSequenceClassification

    return BertForSequenceClassification(BertConfig(vocab_size=57, num_labels=3, **SMALL))


def encoder():
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig(vocab_size=57, **SMALL))


def writer():
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(vocab_size=57, n_embd=96, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0))


def viewer():
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(ViTConfig(image_size=16, patch_size=8, num_labels=3, **SMALL))


def packed(model, place, tiny_model=None):
    tilewright.sparsify_(model, "2:4")
    tilewright.save(model, place)
    for file in tiny_model.glob("*token*") if tiny_model else ():
        shutil.copy(file, place)


@pytest.mark.parametrize(
    ("build", "printed"),
    [
        (classifier, "LABEL_"),
        (encoder, "torch.Size([1, "),
        (writer, "[CLS]"),
        (viewer, "torch.Size([1, 3])"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_the_code_of_a_report_runs_for_models_of_transformers(
    build, printed, tiny_model, tmp_path, monkeypatch, capsys
):
    torch.manual_seed(0)
    model = build().eval()
    code = usage(model)
    packed(model, tmp_path / "model", tiny_model)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert printed in capsys.readouterr().out


def test_the_code_of_a_report_runs_for_sentence_transformers(tiny_model, tmp_path, monkeypatch, capsys):
    jobs.prune(str(tiny_model), tmp_path / "model", "2:4", targets=["encoder.*"])
    monkeypatch.chdir(tmp_path)
    exec(usage(read_model(str(tiny_model))), {})
    assert capsys.readouterr().out == "(2, 96)\n"


def test_the_code_of_a_report_runs_for_plain_modules(tmp_path, monkeypatch):
    def build_model():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 8))

    model = build_model()
    packed(model, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    names = {"build_model": build_model}
    exec(usage(model), names)
    x = torch.randn(3, 64)
    torch.testing.assert_close(names["model"](x), model(x))


def test_a_report_names_the_model_and_no_folder_of_this_machine(tiny_model):
    recipe = jobs.Recipe.model_validate(
        {"version": 1, "name": "x", "model": str(tiny_model), "prune": {"pattern": "2:4"}}
    )
    dense = read_model(str(tiny_model))
    facts = about(recipe, dense, build_task(recipe.data, source_of(recipe.model), dense), 3.0)
    assert facts.task.startswith("Retrieval on the documentation of the running Python")
    assert facts.task.endswith("None of the pairs it is evaluated on are used for training.")
    assert facts.model == f"{tiny_model.name} (BertModel, 0.2 million weights)"
    assert str(tiny_model.parent) not in str(facts)
    assert facts.seconds == 3.0
