"""Training and evaluation mode: switched temporarily and restored for each module separately."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["evaluating", "keeping_modes", "without_fused_attention"]


@contextmanager
def keeping_modes(model: nn.Module) -> Iterator[None]:
    """Restore the current mode of every module when the block ends."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode for the block, then restore the mode of every module."""
    with keeping_modes(model):
        model.eval()
        yield


@contextmanager
def without_fused_attention() -> Iterator[None]:
    """Disable torch's fused attention, which computes a whole encoder layer without calling the modules inside it."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
