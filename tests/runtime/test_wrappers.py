"""Wrappers around a model are removed on saving or rejected with a clear message; an unloadable checkpoint is never written."""

import pytest
import torch
from models import bert
from torch import nn
from torch.optim.swa_utils import AveragedModel

import tilewright
from tilewright.errors import ArgumentError
from tilewright.training import MaskedAverage

WRAPPERS = {
    "compiled": torch.compile,
    "data parallel": nn.DataParallel,
    "average": AveragedModel,
    "masked average": MaskedAverage,
    "compiled average": lambda model: torch.compile(AveragedModel(model)),
    "parallel, compiled": lambda model: nn.DataParallel(torch.compile(model)),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_are_taken_off(name, tmp_path):
    model = bert()
    tilewright.sparsify_(model, "2:4", targets=["encoder.*"])
    tilewright.save(WRAPPERS[name](model), tmp_path)
    loaded = tilewright.load(tmp_path, measure=False)
    ids = torch.randint(0, 100, (2, 7))
    with torch.no_grad():
        expected = model(ids).last_hidden_state
        torch.testing.assert_close(loaded(ids).last_hidden_state, expected, atol=1e-4, rtol=1e-3)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft reads what transformers is about to rename
def test_adapters_that_are_not_merged_are_refused_and_merged_ones_saved(tmp_path):
    peft = pytest.importorskip("peft")
    model = bert()
    tilewright.sparsify_(model, "2:4", targets=["encoder.*"])
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["query"]))
    with pytest.raises(ArgumentError, match=r"query is a peft adapter .*call model\.merge_and_unload\(\) first"):
        tilewright.save(adapted, tmp_path)
    assert not list(tmp_path.iterdir())
    tilewright.save(adapted.merge_and_unload(), tmp_path)
    assert type(tilewright.load(tmp_path, measure=False)).__name__ == "BertModel"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own warning about TorchScript
def test_programs_are_refused(tmp_path):
    model = nn.Sequential(nn.Linear(64, 8)).eval()
    tilewright.sparsify_(model, "2:4")
    with pytest.raises(ArgumentError, match="TorchScript program"):
        tilewright.save(torch.jit.trace(model, torch.randn(2, 64)), tmp_path)


def test_weights_that_are_not_there_are_refused(tmp_path):
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 8))
    tilewright.sparsify_(model, "2:4", targets=["0"])
    model[1].to("meta")
    with pytest.raises(ArgumentError, match=r"1\.weight is on the meta device and has no values"):
        tilewright.save(model, tmp_path)


def test_a_layer_on_disk_is_skipped_and_named(tmp_path):
    accelerate = pytest.importorskip("accelerate")
    model = accelerate.dispatch_model(
        nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)),
        device_map={"0": "cpu", "1": "cpu", "2": "disk"},
        offload_dir=str(tmp_path / "offload"),
        main_device="cpu",
    )
    report = tilewright.sparsify_(model, "2:4")
    assert [bool(row["reason"]) for row in report.rows] == [False, True]
    assert "meta device" in report.rows[1]["reason"]
    with pytest.raises(ArgumentError, match=r"2\.weight is on the meta device"):
        tilewright.save(model, tmp_path / "m")
