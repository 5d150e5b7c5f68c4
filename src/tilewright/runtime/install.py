"""Installing packed weights in a module: as sparse layers if there is a kernel, otherwise as dense parameters."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..errors import FormatError, TargetError
from ..formats import StoredWeight, ValueType
from ..patterns import from_matrix
from ..pruning import matches
from .calling import activated
from .layer import SparseLinear

__all__ = [
    "Note",
    "attach_weights",
    "dense_twin",
    "densified",
    "has_kernel",
    "note_of",
    "pin",
    "set_submodule",
    "sparse_layers",
    "unpack_into",
    "unpack_named_",
]

_NOTE = "tilewright_note"


@dataclass(frozen=True)
class Note:
    """Why a layer of a checkpoint runs sparse or dense; attached to the module by `pin`, read by `note_of`.

    Parameters
    ----------
    pattern
        Text of the pattern in the checkpoint.
    dtype
        Type of the values in the checkpoint.
    reason
        The reason, as a phrase.
    ratio
        Dense time over sparse time, the lowest if there are several; None if it was not measured.
    """

    pattern: str
    dtype: ValueType
    reason: str
    ratio: float | None = None


def pin(module: nn.Module, note: Note, parameter: str = "weight") -> None:
    """Attach a note to a parameter of a module."""
    setattr(module, _NOTE, {**getattr(module, _NOTE, {}), parameter: note})


def note_of(module: nn.Module, parameter: str = "weight") -> Note | None:
    """Return the note attached to a parameter of a module, or None."""
    notes: dict[str, Note] = getattr(module, _NOTE, {})
    return notes.get(parameter)


_NO_KERNEL = "no sparse kernel for {kind} yet: unpacked to dense"


def has_kernel(module: nn.Module, parameter: str, layout: str) -> bool:
    """Return True if the weight of this module can run packed: that of linear layers and of Hugging Face's ``Conv1D``."""
    linear = type(module) is nn.Linear and layout == "linear"
    return parameter == "weight" and (linear or (layout == "transposed" and type(module).__name__ == "Conv1D"))


def attach_weights(model: nn.Module, weights: Mapping[str, StoredWeight]) -> None:
    """Install packed weights in the modules of a model, by parameter name; other parameters are unchanged.

    Raises
    ------
    FormatError
        If the model has no parameter of that name, or its shape differs.
    """
    names: dict[int, list[str]] = {}  # all names of a module: a layer may be used in several places
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(id(module), []).append(name)
    for name, weight in weights.items():
        _attach(model, name, weight, names)


def _attach(model: nn.Module, name: str, weight: StoredWeight, names: Mapping[int, list[str]]) -> None:
    owner, _, parameter = name.rpartition(".")
    try:
        module = model.get_submodule(owner)
    except AttributeError:
        module = None
    current = getattr(module, parameter, None)
    if module is None or not isinstance(current, torch.Tensor):
        raise FormatError(
            f"the checkpoint contains {name}, but {type(model).__name__} has no such parameter; load it into the model it was saved from"
        )
    if tuple(current.shape) != tuple(weight.original_shape):
        raise FormatError(
            f"{name} has shape {list(weight.original_shape)} in the checkpoint, but {list(current.shape)} in the model; load it into "
            "a model with the same configuration"
        )
    if has_kernel(module, parameter, weight.layout):
        bias = getattr(module, "bias", None)
        layer = SparseLinear(weight.packed, None, layout=weight.layout)
        layer.bias = None if bias is None else nn.Parameter(bias.detach().float(), requires_grad=False)
        layer.surrounding = current.dtype
        layer.train(module.training)
        for alias in names[id(module)]:
            set_submodule(model, alias, layer)
    else:
        unpack_into(module, parameter, weight)
        reason = _NO_KERNEL.format(kind=type(module).__name__)
        pin(module, Note(str(weight.packed.pattern), weight.packed.dtype, reason), parameter)


def unpack_into(module: nn.Module, parameter: str, weight: StoredWeight) -> None:
    """Set a parameter to the dense form of a packed weight."""
    dense = from_matrix(weight.packed.unpack(), weight.layout, weight.original_shape)
    tensor = torch.from_numpy(dense)
    if weight.packed.dtype == "bfloat16":
        tensor = tensor.view(torch.int16).view(torch.bfloat16)
    setattr(module, parameter, nn.Parameter(tensor, requires_grad=False))


def unpack_named_(model: nn.Module, expressions: Iterable[str], prefix: str = "") -> None:
    """Unpack the sparse layers that match an expression, in place; `prefix` precedes the names the user knows.

    Raises
    ------
    TargetError
        If an expression matches no packed layer.
    """
    layers = dict(sparse_layers(model))
    for expression in expressions:
        names = [name for name, layer in layers.items() if matches(expression, name.removeprefix(prefix), layer)]
        if not names:
            known = ", ".join(name.removeprefix(prefix) for name in [*layers][:3])
            raise TargetError(
                f"`dense` contains {expression!r}, which matches no packed layer; the first of {len(layers)} are {known}"
            )
        for name in names:
            layer = layers.pop(name)
            twin = dense_twin(layer)
            pin(twin, Note(layer.pattern, layer.stored_dtype, "dense as asked"))
            set_submodule(model, name, twin)


def set_submodule(model: nn.Module, name: str, module: nn.Module) -> None:
    """Replace the submodule of a given name."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def densified(model: nn.Module) -> nn.Module:
    """Return a copy of a model in which sparse layers are ordinary dense ones, including zeros and fused activations."""
    twin = copy.deepcopy(model)
    for name, layer in sparse_layers(twin).items():
        set_submodule(twin, name, dense_twin(layer))
    return twin


def dense_twin(layer: SparseLinear) -> nn.Module:
    """Return the layer as it was before packing, plus its fused activation: an `nn.Linear` or the ``Conv1D`` of transformers."""
    dense = layer.dense()
    if layer.layout == "transposed":
        return _transposed(dense)
    if layer.activation == "none":
        return dense
    with torch.device("meta"):
        twin = _ActivatedLinear(layer.in_features, layer.out_features, layer.bias is not None, layer.activation)
    twin.weight, twin.bias = dense.weight, dense.bias
    return twin


def _transposed(dense: nn.Linear) -> nn.Module:
    """Return a linear layer as ``Conv1D``, which multiplies by ``[K, N]`` with another routine at another speed."""
    from transformers import pytorch_utils

    make: Any = pytorch_utils.Conv1D
    with torch.device("meta"):
        twin: nn.Module = make(dense.out_features, dense.in_features)
    twin.weight = nn.Parameter(dense.weight.detach().T.contiguous(), requires_grad=False)
    bias = dense.weight.new_zeros(dense.out_features) if dense.bias is None else dense.bias.detach()
    twin.bias = nn.Parameter(bias, requires_grad=False)
    return twin


class _ActivatedLinear(nn.Linear):
    """A dense linear layer followed by the activation fused into its sparse form, with the same parameter names."""

    def __init__(self, inputs: int, outputs: int, bias: bool, activation: str) -> None:
        super().__init__(inputs, outputs, bias=bias)
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return activated(super().forward(x), self.activation)


def sparse_layers(model: nn.Module) -> Mapping[str, SparseLinear]:
    """Return the sparse layers of a model by module name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, SparseLinear)}
