"""Fusing an activation into the sparse layer before it, if the bytecode that calls the two is known."""

from collections import Counter
from typing import Any

from torch import nn

from .layer import SparseLinear

__all__ = ["fuse_activations_"]


def _dense_then_activation(self: Any, hidden_states: Any) -> Any:
    """The bytecode a ``forward`` must have: that of BERT's intermediate layer and of its many relatives in transformers."""
    hidden_states = self.dense(hidden_states)
    hidden_states = self.intermediate_act_fn(hidden_states)
    return hidden_states  # noqa: RET504 (the bytecode must match)


_LINEAR, _ACTIVATION = "dense", "intermediate_act_fn"

_OF_TORCH: dict[type, str] = {nn.ReLU: "relu", nn.SiLU: "silu", nn.Tanh: "tanh"}
_OF_TRANSFORMERS = {
    "GELUActivation": "gelu",
    "NewGELUActivation": "gelu_tanh",
    "GELUTanh": "gelu_tanh",
    "SiLUActivation": "silu",
}


def fuse_activations_(model: nn.Module) -> int:
    """Fuse activations into the sparse layers before them, in place; return the number of fused layers.

    A class is recognised by what its ``forward`` does, not by its name. Layers with hooks, and layers used in several
    places, are left unchanged.
    """
    places = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    fused = 0
    for module in model.modules():
        layer, activation = module._modules.get(_LINEAR), module._modules.get(_ACTIVATION)
        name = _name_of(activation)
        if (
            isinstance(layer, SparseLinear)
            and activation is not None
            and name
            and layer.activation == "none"
            and _is_known(module)
            and places[id(layer)] == 1
            and not (_hooked(layer) or _hooked(activation))
        ):
            layer.activation = name
            setattr(module, _ACTIVATION, nn.Identity())
            fused += 1
    return fused


def _is_known(module: nn.Module) -> bool:
    """Return True if the module's ``forward`` has the bytecode of `_dense_then_activation`."""
    code = getattr(type(module).forward, "__code__", None)
    known = _dense_then_activation.__code__
    if "forward" in module.__dict__ or code is None:
        return False
    return bool(
        (code.co_code, code.co_names, code.co_argcount, code.co_flags)
        == (known.co_code, known.co_names, known.co_argcount, known.co_flags)
    )


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks) or "forward" in module.__dict__


def _name_of(function: object) -> str | None:
    """Return the kernels' name for an activation, or None if they do not support it. Subclasses are never recognised."""
    if type(function) is nn.GELU:
        return "gelu" if function.approximate == "none" else "gelu_tanh"
    if type(function).__module__ == "transformers.activations":
        return _OF_TRANSFORMERS.get(type(function).__name__)
    return _OF_TORCH.get(type(function))
