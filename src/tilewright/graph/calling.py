"""Calling a model on a batch."""

from collections.abc import Mapping
from typing import Any

from torch import nn

__all__ = ["call"]


def call(model: nn.Module, batch: Any, **options: Any) -> Any:
    """Call a model on a batch and return its result.

    Parameters
    ----------
    model
        Any module.
    batch
        Input of the call. A mapping is passed as keyword arguments, a tuple or list as positional arguments, and anything
        else as the only argument.
    options
        Further keyword arguments.

    Examples
    --------
    >>> call(nn.Flatten(), nn.Linear(2, 3).weight).shape
    torch.Size([3, 2])
    """
    match batch:
        case Mapping():
            return model(**batch, **options)
        case tuple() | list():
            return model(*batch, **options)
        case _:
            return model(batch, **options)
