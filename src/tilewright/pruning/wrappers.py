"""Wrappers around a model, such as those of data parallelism, that are not part of it."""

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

__all__ = ["bare"]


def bare(model: nn.Module) -> nn.Module:
    """Return the model inside the wrappers of `torch.compile`, data parallelism and weight averaging."""
    while True:
        if isinstance(model, DataParallel | DistributedDataParallel | AveragedModel):
            model = model.module
        elif type(model).__name__ == "OptimizedModule":  # from `torch.compile`, which is slow to import
            model = model.get_submodule("_orig_mod")
        else:
            return model
