"""The program that two processes run together: every way of distributing a model, with every method. Not a test by itself."""

import contextlib
import sys
from pathlib import Path

import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from tilewright.pruning import masks_of, sparsify_
from tilewright.records import digest
from tilewright.training import (
    SRSTE,
    Checkpoint,
    FixedMask,
    Gradual,
    Method,
    MultiStage,
    Share,
    Sparsifier,
    Training,
    TrainOptions,
    train_,
)

STEPS = 8

METHODS: dict[str, Method] = {
    "fixed": FixedMask(),
    "gradual": Gradual("1:4", end=6, every=2),
    "taylor": Gradual("tw2@50%", end=6, every=3, score="taylor", budget="global", scoring_steps=2),
    "srste": SRSTE("2:4", decay=1e-2),
    "stages": MultiStage(("tw2@25%", "tw2@50%"), every=3, begin=2, scoring_steps=2),
    "regrow": Gradual("1:4", end=6, every=2, regrow=True),
}

KINDS = ("ddp", "sharded")


class Net(nn.Module):
    """Odd sizes: one process holds more outputs than the other, and none of the last layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 7)
        self.norm = nn.BatchNorm1d(7)
        self.second = nn.Linear(7, 9)
        self.last = nn.Linear(9, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.second(self.norm(self.first(x)).tanh()).tanh())


def build(name: str) -> Net:
    """Return the model before it is distributed, with masks for the method that needs them."""
    torch.manual_seed(3)
    model = Net()
    if name == "fixed":
        sparsify_(model, "2:4")
    return model


def batches() -> list[torch.Tensor]:
    """Return the global batches."""
    return [torch.randn(16, 12, generator=torch.Generator().manual_seed(i)) for i in range(2 * STEPS)]


def loss_of(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return a mean over the batch, which equals the mean over processes."""
    return (model(x)[:, 0] - x[:, :3].sum(dim=1).sin()).square().mean()


def settings(**changes: object) -> TrainOptions:
    """Return options that exercise all state: moments, a clipped norm, two batches per step, frozen batch statistics."""
    chosen = {"steps": STEPS, "learning_rate": 0.05, "optimizer": "sgd", "accumulate": 2, "mode": "eval", "clip": 0.5}
    return TrainOptions(**(chosen | {"weight_decay": 0.01} | changes))


def spread(model: Net, kind: str) -> nn.Module:
    """Distribute a model over the processes."""
    if kind == "ddp":
        return DistributedDataParallel(model)
    for layer in (model.first, model.second, model.last):
        fully_shard(layer)
    fully_shard(model)
    return model


def train(model: nn.Module, name: str, place: Path, stop: int | None = None) -> Training:
    """Train a model, distributed or not, with checkpoints; `stop` ends the run at a step as a kill would."""

    def progress(step: int, *rest: object) -> None:
        if step == stop:
            raise KeyboardInterrupt

    return train_(
        model,
        Share(batches()),
        loss_of,
        options=settings(optimizer="adamw" if name in ("fixed", "gradual") else "sgd"),
        method=METHODS[name],
        checkpoint=Checkpoint(place, every=3),
        progress=progress,
    )


def plain_loop(model: nn.Module, name: str) -> Sparsifier:
    """Train in a manual loop with the three lines; batch statistics are frozen, as each process has its own."""
    model.eval()
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    optimizer = torch.optim.AdamW(inner.parameters(), lr=0.01)
    sparsifier = Sparsifier(model, METHODS[name]).attach(optimizer)
    for batch in Share(batches()).whole[:STEPS]:
        optimizer.zero_grad()
        loss_of(model, Share([batch])[0]).backward()
        optimizer.step()
    sparsifier.finish()
    return sparsifier


def whole_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return full parameters and buffers under the names of the plain model."""
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    state = inner.state_dict()
    return {
        name: (value.full_tensor() if hasattr(value, "full_tensor") else value).clone() for name, value in state.items()
    }


def main() -> None:
    """Train everything and save the results of each process in ``argv[1]``."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    results = {}
    for kind in KINDS:
        for name in METHODS:
            model = spread(build(name), kind)
            training = train(model, name, folder / f"{kind}-{name}")
            state = whole_state(model)
            inner = model.module if isinstance(model, DistributedDataParallel) else model
            results[kind, name] = (state, training.losses, training.mask_changes, digest(masks_of(inner)))
            with contextlib.suppress(KeyboardInterrupt):
                train(spread(build(name), kind), name, folder / f"half-{kind}-{name}", stop=5)
            looped = spread(build(name), kind)
            plain_loop(looped, name)
            results["loop", kind, name] = whole_state(looped)
        for stop in (5, None):
            again = spread(build("srste"), kind)
            with contextlib.suppress(KeyboardInterrupt):
                train(again, "srste", folder / f"twice-{kind}", stop=stop)
        results["again", kind] = whole_state(again)
    torch.save(results, folder / f"rank{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
