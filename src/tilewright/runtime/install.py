"""Putting packed weights into a module: sparse layers where there is a kernel, dense parameters where there is none."""

from collections.abc import Mapping

import torch
from torch import nn

from ..errors import FormatError
from ..formats import StoredWeight
from ..patterns import from_matrix
from .modules import SparseLinear

__all__ = ["REASON", "attach_weight", "has_kernel", "set_submodule", "sparse_layers", "unpack_into"]

REASON = "tilewright_reason"
"""Attribute of a module that says why its weight is dense although the checkpoint holds it packed."""

_NO_KERNEL = "no sparse kernel for {kind} yet: unpacked to dense"


def has_kernel(module: nn.Module, parameter: str, layout: str) -> bool:
    """Return True if the weight of this module can run packed: linear layers, and the ``Conv1D`` of Hugging Face."""
    linear = type(module) is nn.Linear and layout == "linear"
    return parameter == "weight" and (linear or (layout == "transposed" and type(module).__name__ == "Conv1D"))


def attach_weight(model: nn.Module, name: str, weight: StoredWeight) -> None:
    """Give a module of the model its packed weight; its other parameters stay as they are.

    Raises
    ------
    FormatError
        If the model has no such parameter, or one of another shape.
    """
    owner, _, parameter = name.rpartition(".")
    try:
        module = model.get_submodule(owner)
    except AttributeError:
        module = None
    current = getattr(module, parameter, None)
    if module is None or not isinstance(current, torch.Tensor):
        raise FormatError(
            f"the checkpoint holds {name}, and {type(model).__name__} has no such parameter; load it into the model it was saved from"
        )
    if tuple(current.shape) != tuple(weight.original_shape):
        raise FormatError(
            f"the checkpoint holds {name} with shape {list(weight.original_shape)}, and the model's has {list(current.shape)}; load "
            "it into a model of the same configuration"
        )
    if has_kernel(module, parameter, weight.layout):
        bias = getattr(module, "bias", None)
        layer = SparseLinear(weight.packed, None, layout=weight.layout)
        layer.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        layer.train(module.training)
        set_submodule(model, owner, layer)
    else:
        unpack_into(module, parameter, weight)
        setattr(module, REASON, _NO_KERNEL.format(kind=type(module).__name__))


def unpack_into(module: nn.Module, parameter: str, weight: StoredWeight) -> None:
    """Set a parameter to the dense form of a packed weight."""
    dense = from_matrix(weight.packed.unpack(), weight.layout, weight.original_shape)
    tensor = torch.from_numpy(dense)
    if weight.packed.dtype == "bfloat16":
        tensor = tensor.view(torch.int16).view(torch.bfloat16)
    setattr(module, parameter, nn.Parameter(tensor, requires_grad=False))


def set_submodule(model: nn.Module, name: str, module: nn.Module) -> None:
    """Replace a submodule by name."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def sparse_layers(model: nn.Module) -> Mapping[str, SparseLinear]:
    """Return the sparse layers of a model by module name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, SparseLinear)}
