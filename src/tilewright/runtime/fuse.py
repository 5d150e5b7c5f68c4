"""Merging an activation into the sparse layer before it, where the module's code is known to be ``act(dense(x))``."""

from torch import nn

from .modules import SparseLinear

__all__ = ["fuse_activations_"]

_PLACES = (("Intermediate", "dense", "intermediate_act_fn"),)
"""(ending of the class name, linear layer, activation): BERT and its many relatives name them so."""


def fuse_activations_(model: nn.Module) -> int:
    """Fuse what can be fused, in place; return how many layers were."""
    fused = 0
    for module in model.modules():
        for ending, linear, act in _PLACES:
            layer, function = getattr(module, linear, None), getattr(module, act, None)
            name = _name_of(function)
            if (
                type(module).__name__.endswith(ending)
                and isinstance(layer, SparseLinear)
                and name
                and layer.activation == "none"
            ):
                layer.activation = name
                setattr(module, act, nn.Identity())
                fused += 1
    return fused


def _name_of(function: object) -> str | None:
    """Return the kernels' name of an activation, or None if they lack it."""
    if isinstance(function, nn.GELU):
        return "gelu" if function.approximate == "none" else "gelu_tanh"
    if isinstance(function, nn.ReLU):
        return "relu"
    if isinstance(function, nn.SiLU):
        return "silu"
    if isinstance(function, nn.Tanh):
        return "tanh"
    return {
        "GELUActivation": "gelu",
        "NewGELUActivation": "gelu_tanh",
        "GELUTanh": "gelu_tanh",
        "SiLUActivation": "silu",
    }.get(type(function).__name__)
