"""Training and evaluation mode: switched for a while, and put back for each module separately."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["evaluating", "keeping_modes", "without_fused_attention"]


@contextmanager
def keeping_modes(model: nn.Module) -> Iterator[None]:
    """Put every module back into the mode it is in now, whatever happens inside the block."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, and every module back into its own mode afterwards."""
    with keeping_modes(model):
        model.eval()
        yield


@contextmanager
def without_fused_attention() -> Iterator[None]:
    """Switch torch's fused attention off: it computes a whole encoder layer at once, and the modules inside are never called."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
