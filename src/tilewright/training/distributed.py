"""Helpers for distributed training: the rank of this process, and values that all processes agree on."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..pruning import bare, is_spread

__all__ = ["Ranks", "bare", "ranks_of"]


@dataclass(frozen=True)
class Ranks:
    """Rank of this process and number of processes that train one model."""

    rank: int = 0
    size: int = 1

    def mean(self, value: float, device: torch.device) -> float:
        """Return the mean of a value over all processes."""
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=device)
        torch.distributed.all_reduce(total)
        return total.item() / self.size

    def agree(self, error: Exception | None, device: torch.device) -> None:
        """Raise on every process if any of them failed, so that none waits forever."""
        failed = self.mean(float(error is not None), device) > 0
        if error is not None:
            raise error
        if failed:
            raise OSError("another process of this run could not write the checkpoint; see its error message")


def ranks_of(model: nn.Module) -> Ranks:
    """Return rank and size of this process if the model is distributed (DDP or sharded parameters), otherwise 0 and 1."""
    distributed = isinstance(model, DistributedDataParallel) or any(is_spread(p) for p in model.parameters())
    if not distributed or not torch.distributed.is_initialized():
        return Ranks()
    return Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size())
