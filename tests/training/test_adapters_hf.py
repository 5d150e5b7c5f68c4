"""The Hugging Face callback: the trainer prunes like the plain loop, resumes to the same weights, and stops at a broken mask."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tilewright.errors import ArgumentError, CheckFailed, FormatError, TargetError
from tilewright.pruning import masks_of, patterns_of, sparsify_
from tilewright.training import SRSTE, FixedMask, Gradual, Sparsifier, check_masks

transformers = pytest.importorskip("transformers", reason="Hugging Face transformers is not installed")
pytest.importorskip("accelerate", reason="the Trainer of transformers needs accelerate")

from tilewright.training.adapters.hf import SparsityCallback  # noqa: E402 (imports transformers)

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:accelerate"),
    pytest.mark.filterwarnings("ignore::FutureWarning:transformers"),
]

METHODS = {
    "gradual": Gradual("2:4", end=6, every=2),
    "taylor": Gradual("1:4", end=6, every=2, score="taylor", scoring_steps=2),
    "sr-ste": SRSTE("2:4", decay=1e-2),
}


def model(dropout: float = 0.1) -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 32, "max_position_embeddings": 16}
    config = transformers.BertConfig(**sizes, num_hidden_layers=2, num_attention_heads=2, num_labels=3)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
    return transformers.BertForSequenceClassification(config)


def data(count: int = 64) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(2)
    return [
        {"input_ids": torch.randint(0, 40, (6,), generator=generator), "labels": torch.tensor(number % 3)}
        for number in range(count)
    ]


def trainer(folder: Path, network: Any, *callbacks: Any, **changes: Any) -> Any:
    chosen = {
        "output_dir": str(folder),
        "max_steps": 8,
        "save_steps": 3,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "logging_strategy": "no",
        "dataloader_pin_memory": False,
    }
    arguments = transformers.TrainingArguments(**(chosen | changes))
    return transformers.Trainer(network, arguments, train_dataset=data(), callbacks=list(callbacks))


def equal(one: nn.Module, two: nn.Module) -> bool:
    states = one.state_dict(), two.state_dict()
    return states[0].keys() == states[1].keys() and all(torch.equal(v, states[1][k]) for k, v in states[0].items())


@pytest.mark.parametrize("name", METHODS)
def test_a_resumed_run_has_the_weights_of_an_uninterrupted_one(tmp_path: Path, name: str) -> None:
    whole, again = model(), model()
    callback = SparsityCallback(METHODS[name], ignore=["classifier"])
    trainer(tmp_path / "whole", whole, callback).train()
    assert callback.report is not None
    assert {row["pattern"] for row in callback.report.rows} == {str(METHODS[name].final)}
    check_masks(whole)
    assert "classifier.weight" not in masks_of(whole)

    with torch.no_grad():
        for parameter in again.parameters():
            parameter.zero_()  # all must come from the checkpoint
    second = SparsityCallback(METHODS[name], ignore=["classifier"])
    trainer(tmp_path / "again", again, second).train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert equal(whole, again)
    assert {str(p) for p in patterns_of(again).values()} == {str(METHODS[name].final)}
    assert second.report == callback.report


@pytest.mark.parametrize("name", METHODS)
def test_the_trainer_does_what_the_plain_loop_does(tmp_path: Path, name: str) -> None:
    trained, plain = model(dropout=0.0), model(dropout=0.0)
    callback = SparsityCallback(METHODS[name], targets=["*.output.dense"])
    changes = {"max_grad_norm": 0.0, "lr_scheduler_type": "constant", "optim": "sgd", "learning_rate": 0.1}
    run = trainer(tmp_path, trained, callback, save_strategy="no", gradient_accumulation_steps=2, **changes)
    run.model_accepts_loss_kwargs = False  # this model ignores the item count that the trainer passes for its loss
    seen: list[Any] = []
    inner = run.training_step
    run.training_step = lambda network, batch, *rest: (seen.append(batch), inner(network, batch, *rest))[1]
    run.train()
    assert len(seen) == 16
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    sparsifier = Sparsifier(plain, METHODS[name], targets=["*.output.dense"]).attach(optimizer)
    plain.train()
    for step in range(8):
        optimizer.zero_grad()
        for batch in seen[2 * step : 2 * step + 2]:
            (plain(**batch).loss / 2).backward()
        optimizer.step()
    sparsifier.finish()
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[key], value)
    assert callback.report.summary["steps"] == 8


def test_masks_from_sparsify_are_held(tmp_path: Path) -> None:
    network = model()
    sparsify_(network, "2:4", ignore=["classifier"])
    masks = {name: mask.clone() for name, mask in masks_of(network).items()}
    before = copy.deepcopy(network.state_dict())
    trainer(tmp_path, network, SparsityCallback(), weight_decay=0.1).train()
    assert all(torch.equal(mask, masks[name]) for name, mask in masks_of(network).items())
    check_masks(network)
    assert not torch.equal(network.classifier.weight, before["classifier.weight"])


class Breaker(transformers.TrainerCallback):
    """Writes to a pruned weight at one step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            with torch.no_grad():
                kwargs["model"].bert.encoder.layer[1].output.dense.weight.fill_(1.0)


@pytest.mark.parametrize("order", [0, 1])
def test_a_broken_mask_stops_the_run_and_names_the_layer(tmp_path: Path, order: int) -> None:
    callbacks = [Breaker(3), SparsityCallback(METHODS["gradual"], ignore=["classifier"])]
    run = trainer(tmp_path, model(), *(callbacks if order == 0 else callbacks[::-1]))
    if order == 0:
        with pytest.raises(CheckFailed, match=r"bert\.encoder\.layer\.1\.output\.dense\.weight has \d+ pruned"):
            run.train()
        assert not (tmp_path / "checkpoint-3").exists()
    else:  # broken after the check of step 3, and restored by the next step
        run.train()
        check_masks(run.model)


def test_a_mask_broken_after_the_last_step_is_found_at_the_end(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match=r"layer\.1\.output\.dense\.weight"):
        trainer(tmp_path, model(), Breaker(8), SparsityCallback(SRSTE("2:4")), save_strategy="no").train()


def test_what_cannot_work_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="nothing"):
        trainer(tmp_path, model(), SparsityCallback(SRSTE("2:4"), targets=["nothing"]))
    with pytest.raises(ArgumentError, match="no masks"):
        trainer(tmp_path, model(), SparsityCallback(FixedMask()))
    with pytest.raises(ArgumentError, match="until step 20, but the trainer stops after 8"):
        trainer(tmp_path, model(), SparsityCallback(Gradual("2:4", end=20, every=5))).train()
    with pytest.raises(ArgumentError, match="created for a different model"):
        trainer(tmp_path, model(), SparsityCallback(Sparsifier(model(), SRSTE("2:4"))))
    with pytest.raises(ArgumentError, match="pass targets and ignore to it instead"):
        SparsityCallback(Sparsifier(model(), SRSTE("2:4")), targets=["*"])


def test_a_checkpoint_written_without_the_callback_is_refused(tmp_path: Path) -> None:
    network = model()
    sparsify_(network, "2:4")
    trainer(tmp_path, network).train()
    network = model()
    sparsify_(network, "2:4")
    with pytest.raises(FormatError, match="resumes from step 3, but its checkpoint has no SparsityCallback state"):
        trainer(tmp_path, network, SparsityCallback()).train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))


def test_a_callback_serves_one_run(tmp_path: Path) -> None:
    network = model()
    callback = SparsityCallback(METHODS["gradual"])
    run = trainer(tmp_path, network, callback, save_strategy="no")
    run.train()
    with pytest.raises(ArgumentError, match=r"create a new one with FixedMask\(\)"):
        run.train()
    late = trainer(tmp_path, network, save_strategy="no")
    late.add_callback(SparsityCallback())  # after the constructor, which is allowed if nothing is resumed
    late.train()
    check_masks(network)
