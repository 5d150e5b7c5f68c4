"""Modules around a model that are not part of it."""

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

__all__ = ["bare"]


def bare(model: nn.Module) -> nn.Module:
    """Return the model inside what `torch.compile`, data parallelism and averages of weights put around it."""
    while True:
        if isinstance(model, DataParallel | DistributedDataParallel | AveragedModel):
            model = model.module
        elif type(model).__name__ == "OptimizedModule":  # of `torch.compile`, whose import is a long one
            model = model.get_submodule("_orig_mod")
        else:
            return model
