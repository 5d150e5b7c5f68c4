"""The Lightning callback: the trainer prunes like the plain loop, resumes to the same weights, and stops at a broken mask."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tilewright.errors import ArgumentError, CheckFailed, FormatError, TargetError
from tilewright.pruning import masks_of, patterns_of, sparsify_
from tilewright.training import SRSTE, Gradual, Sparsifier, check_masks

lightning = pytest.importorskip("lightning.pytorch", reason="lightning is not installed")

from tilewright.training.adapters.lightning import SparsityCallback  # noqa: E402 (imports lightning)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning"),
]

METHODS = {
    "gradual": Gradual("2:4", end=6, every=2),
    "taylor": Gradual("1:4", end=6, every=2, score="taylor", scoring_steps=2),
    "sr-ste": SRSTE("2:4", decay=1e-2),
}


class Module(lightning.LightningModule):
    def __init__(self, rate: float = 0.1, optimizer: str = "sgd") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        self.rate, self.kind = rate, optimizer

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self.model(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        if self.kind == "adam":
            return torch.optim.AdamW(self.parameters(), lr=self.rate, weight_decay=0.1)
        return torch.optim.SGD(self.parameters(), lr=self.rate)


def batches() -> list[Any]:
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn(64, 8, generator=generator), torch.randint(0, 4, (64,), generator=generator)
    return list(zip(x.split(4), y.split(4), strict=True))


def loader() -> Any:
    items = [(x, y) for xs, ys in batches() for x, y in zip(xs, ys, strict=True)]
    return torch.utils.data.DataLoader(items, batch_size=4)


def fit(folder: Path, module: Any, *callbacks: Any, resume: Path | None = None, **changes: Any) -> Any:
    chosen = {"max_steps": 8, "accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    chosen |= {"enable_model_summary": False, "default_root_dir": folder}
    if changes.pop("saving", True):
        callbacks = (
            *callbacks,
            lightning.callbacks.ModelCheckpoint(folder, filename="{step}", every_n_train_steps=3, save_top_k=-1),
        )
    else:
        changes |= {"enable_checkpointing": False}
    trainer = lightning.Trainer(callbacks=list(callbacks), **(chosen | changes))
    trainer.fit(module, loader(), ckpt_path=resume)
    return trainer


@pytest.mark.parametrize("name", METHODS)
def test_a_resumed_run_has_the_weights_of_an_uninterrupted_one(tmp_path: Path, name: str) -> None:
    whole, again = Module(0.01, "adam"), Module(0.01, "adam")
    callback = SparsityCallback(METHODS[name])
    # A checkpoint at the end of an epoch, as the loader cannot start in the middle of one.
    fit(tmp_path / "whole", whole, callback, limit_train_batches=3)
    check_masks(whole)
    assert {row["pattern"] for row in callback.report.rows} == {str(METHODS[name].final)}
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.zero_()  # all must come from the checkpoint
    second = SparsityCallback(METHODS[name])
    fit(tmp_path / "again", again, second, resume=tmp_path / "whole" / "step=3.ckpt", limit_train_batches=3)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in whole.state_dict().items())
    assert {str(p) for p in patterns_of(again).values()} == {str(METHODS[name].final)}
    assert second.report == callback.report


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("name", METHODS)
def test_the_trainer_does_what_the_plain_loop_does(tmp_path: Path, name: str, clip: float | None) -> None:
    trained, plain = Module(), Module()
    callback = SparsityCallback(METHODS[name])
    fit(tmp_path, trained, callback, saving=False, accumulate_grad_batches=2, gradient_clip_val=clip)
    optimizer = plain.configure_optimizers()
    sparsifier = Sparsifier(plain, METHODS[name]).attach(optimizer)
    for step in range(8):
        optimizer.zero_grad()
        for batch in batches()[2 * step : 2 * step + 2]:
            (plain.training_step(batch, 0) / 2).backward()
        sparsifier.prepare()
        if clip:
            torch.nn.utils.clip_grad_norm_(plain.parameters(), clip)
        optimizer.step()
    sparsifier.finish()
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[key], value)
    assert masks_of(trained).keys() == masks_of(plain).keys()


class Breaker(lightning.Callback):
    """Writes to a pruned weight after one step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
        if trainer.global_step == self.step:
            with torch.no_grad():
                pl_module.model[2].weight.fill_(1.0)


def test_a_broken_mask_stops_the_run_and_names_the_layer(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match=r"model\.2\.weight has \d+ pruned"):
        fit(tmp_path, Module(), Breaker(3), SparsityCallback(METHODS["gradual"]))
    assert not list(tmp_path.glob("*.ckpt"))


def test_a_mask_broken_after_the_last_step_is_found_at_the_end(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match=r"model\.2\.weight"):
        fit(tmp_path, Module(), Breaker(8), SparsityCallback(METHODS["sr-ste"]), saving=False)


def test_masks_from_sparsify_are_held(tmp_path: Path) -> None:
    module = Module(0.05, "adam")
    sparsify_(module.model, "2:4")
    masks = {name: mask.clone() for name, mask in masks_of(module).items()}
    fit(tmp_path, module, SparsityCallback())
    assert all(torch.equal(mask, masks[name]) for name, mask in masks_of(module).items())
    check_masks(module)


def test_what_cannot_work_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="nothing"):
        fit(tmp_path, Module(), SparsityCallback(SRSTE("2:4"), targets=["nothing"]), saving=False)
    with pytest.raises(ArgumentError, match="until step 20, but the trainer stops after 8"):
        fit(tmp_path, Module(), SparsityCallback(Gradual("2:4", end=20, every=5)), saving=False)
    module = Module()
    callback = SparsityCallback(METHODS["gradual"])
    fit(tmp_path, module, callback, saving=False)
    with pytest.raises(ArgumentError, match=r"create a new one with FixedMask\(\)"):
        fit(tmp_path, module, callback, saving=False)


def test_a_checkpoint_written_without_the_callback_is_refused(tmp_path: Path) -> None:
    def masked() -> Any:
        module = Module()
        sparsify_(module.model, "2:4")
        return module

    fit(tmp_path, masked())
    with pytest.raises(FormatError, match="resumes from step 3, but its checkpoint has no SparsityCallback state"):
        fit(tmp_path / "again", masked(), SparsityCallback(), resume=tmp_path / "step=3.ckpt")
