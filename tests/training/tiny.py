"""A transformer small enough to train in a test, with dropout, and a program that recovers it, which the kill test runs."""

import copy
import sys

import torch
from torch import nn

from tilewright.pruning import sparsify_
from tilewright.training import Batches, Checkpoint, RecoverOptions, recover_

STEPS = 24


class Tiny(nn.Module):
    """A model from token ids ``[B, T]`` to a pooled vector ``[B, 16]``."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(16, 2, 32, dropout=dropout, batch_first=True) for _ in range(2)
        )
        self.head = nn.Linear(16, 16)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(dim=1))


def pair(pattern: str = "2:4") -> tuple[Tiny, Tiny]:
    """Return (student with masks, dense teacher), the same each time."""
    torch.manual_seed(7)
    teacher = Tiny()
    student = copy.deepcopy(teacher)
    sparsify_(student, pattern)
    return student, teacher


def tokens(count: int = 64) -> Batches:
    """Return batches of random token ids, the same each time."""
    ids = torch.randint(0, 50, (count, 6), generator=torch.Generator().manual_seed(3))
    return Batches(list(ids), 8, seed=5)


def options(steps: int = STEPS, **changes: object) -> RecoverOptions:
    """Return options that exercise all state: dropout, moments, a changing learning rate."""
    chosen = {"steps": steps, "layers": ("blocks.?",), "mode": "train", "learning_rate": 1e-3, "seed": 11}
    return RecoverOptions(**(chosen | changes))


def main() -> None:
    """Recover with a checkpoint in ``argv[1]``, printing each finished step."""
    torch.set_num_threads(1)
    torch.manual_seed(int(sys.argv[2]))  # the caller's random state must not matter
    student, teacher = pair()
    recover_(
        student,
        teacher,
        tokens(),
        options=options(),
        checkpoint=Checkpoint(sys.argv[1], every=int(sys.argv[3])),
        progress=lambda step, steps, loss, extras: print(step, flush=True),
    )
    torch.save(student.state_dict(), sys.argv[1] + ".final")


if __name__ == "__main__":
    main()
