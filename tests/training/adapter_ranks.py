"""The program that two processes run together: Hugging Face and Lightning trainers, pruning under DDP. Not a test by itself."""

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from lightning import pytorch as lightning
from torch import nn

from tilewright.pruning import masks_of
from tilewright.training import SRSTE, Gradual, Method
from tilewright.training.adapters.hf import SparsityCallback as HuggingFaceCallback
from tilewright.training.adapters.lightning import SparsityCallback as LightningCallback

METHODS: dict[str, Method] = {
    "taylor": Gradual("1:4", end=4, every=2, score="taylor", scoring_steps=2),
    "srste": SRSTE("2:4", decay=1e-2),
}
STEPS, GLOBAL_BATCH = 6, 8


class Network(nn.Module):
    """The model for both trainers: two layers, and its own loss, as transformers expects."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.last(self.first(x).tanh())
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class Module(lightning.LightningModule):
    """The network as a Lightning module."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network()

    def training_step(self, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
        return self.network(**batch)["loss"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def data() -> list[dict[str, torch.Tensor]]:
    """Return enough examples for all steps."""
    generator = torch.Generator().manual_seed(2)
    return [
        {"x": torch.randn(8, generator=generator), "labels": torch.tensor(i % 4)} for i in range(STEPS * GLOBAL_BATCH)
    ]


def with_transformers(folder: Path, name: str, ranks: int, resume: bool = False) -> nn.Module:
    """Train with the Trainer, which saves a checkpoint after half of the steps."""
    network = Network()
    arguments = transformers.TrainingArguments(
        str(folder),
        max_steps=STEPS,
        save_steps=STEPS // 2,
        per_device_train_batch_size=GLOBAL_BATCH // ranks,
        learning_rate=0.1,
        optim="sgd",
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
        dataloader_pin_memory=False,
    )
    callback = HuggingFaceCallback(METHODS[name])
    trainer = transformers.Trainer(network, arguments, train_dataset=data(), callbacks=[callback])
    trainer.model_accepts_loss_kwargs = False
    trainer.train(resume_from_checkpoint=str(folder / f"checkpoint-{STEPS // 2}") if resume else None)
    assert callback.report is not None
    return network


def with_lightning(folder: Path, name: str, ranks: int, resume: bool = False) -> nn.Module:
    """Train with Lightning's trainer for two epochs, with a checkpoint after the first."""
    module, callback = Module(), LightningCallback(METHODS[name])
    saving = lightning.callbacks.ModelCheckpoint(
        folder, filename="{step}", save_top_k=-1, every_n_train_steps=STEPS // 2
    )
    half = data()[: STEPS * GLOBAL_BATCH // 2]
    # Lightning's own sampler would shuffle on several processes; this one yields the batches of a single process.
    rank = int(os.environ.get("RANK", "0"))
    sampler = torch.utils.data.DistributedSampler(half, ranks, rank, shuffle=False)  # type: ignore[arg-type]
    loader: Any = torch.utils.data.DataLoader(half, batch_size=GLOBAL_BATCH // ranks, sampler=sampler)
    trainer = lightning.Trainer(
        max_steps=STEPS,
        accelerator="cpu",
        devices=ranks,
        strategy="ddp" if ranks > 1 else "auto",
        use_distributed_sampler=False,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[callback, saving],
    )
    trainer.fit(module, loader, ckpt_path=folder / f"step={STEPS // 2}.ckpt" if resume else None)
    assert callback.report is not None
    return module.network


TRAINERS = {"transformers": with_transformers, "lightning": with_lightning}


def main(folder: Path) -> None:
    """Train in every way and save the results of this process."""
    warnings.simplefilter("ignore")
    results = {}
    for trainer, train in TRAINERS.items():
        for name in METHODS:
            place = folder / f"{trainer}-{name}"
            network = train(place, name, 2)
            state = {key: value.clone() for key, value in network.state_dict().items()}
            results[trainer, name] = (state, {key: mask.clone() for key, mask in masks_of(network).items()})
    torch.save(results, folder / f"rank{os.environ['RANK']}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
