"""What training in several processes needs: who we are, and numbers on which all agree."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..pruning import bare, is_spread

__all__ = ["Ranks", "bare", "ranks_of"]


@dataclass(frozen=True)
class Ranks:
    """This process's place among those that train one model together."""

    rank: int = 0
    size: int = 1

    def mean(self, value: float, device: torch.device) -> float:
        """Return the mean of a number over all processes."""
        if self.size == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=device)
        torch.distributed.all_reduce(shared)
        return shared.item() / self.size

    def agree(self, error: Exception | None, device: torch.device) -> None:
        """Raise on every process if one of them failed, so that none waits for it for ever."""
        failed = self.mean(float(error is not None), device) > 0
        if error is not None:
            raise error
        if failed:
            raise OSError("another process of this run could not write the checkpoint; its message says why")


def ranks_of(model: nn.Module) -> Ranks:
    """Return the place of this process, if the model is trained by several (DDP or sharded parameters)."""
    spread = isinstance(model, DistributedDataParallel) or any(is_spread(p) for p in model.parameters())
    if not spread or not torch.distributed.is_initialized():
        return Ranks()
    return Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size())
