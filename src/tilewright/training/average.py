"""`MaskedAverage`: weight averages that keep the pattern."""

from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel

from ..pruning import teach_averages

__all__ = ["MaskedAverage"]


class MaskedAverage(AveragedModel):
    """`torch.optim.swa_utils.AveragedModel` for a pruned model: the average always has the model's current masks.

    It takes the same arguments, and can be created before or after the model has masks. The average of an element that returns
    to the mask starts from zero. For a model that already has masks, a plain `AveragedModel` does the same.

    Examples
    --------
    >>> import torch
    >>> from torch.optim.swa_utils import get_ema_multi_avg_fn
    >>> from tilewright.training import SRSTE, Sparsifier
    >>> model = nn.Linear(8, 4)
    >>> average = MaskedAverage(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> sparsifier = Sparsifier(model, SRSTE("2:4")).attach(optimizer)
    >>> for _ in range(3):
    ...     optimizer.zero_grad()
    ...     model(torch.randn(16, 8)).square().mean().backward()
    ...     optimizer.step()
    ...     average.update_parameters(model)
    >>> int(average.module.weight.count_nonzero())
    16
    """

    def __init__(self, model: nn.Module, *args: Any, **kwargs: Any) -> None:
        teach_averages()
        super().__init__(model, *args, **kwargs)
