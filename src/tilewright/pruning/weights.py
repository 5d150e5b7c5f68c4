"""Which weights of a model can be pruned, how each is stored, and why the others cannot be pruned."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..patterns import NM, Layout, Pattern, matrix_shape
from .tensors import is_spread, plain

__all__ = ["Weight", "prunable", "survey"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_RECURRENT = re.compile(r"weight_(ih|hh)(_l\d+(_reverse)?)?")


@dataclass(frozen=True, eq=False)
class Weight:
    """One weight of a model, and how it is viewed as a matrix.

    Parameters
    ----------
    name
        Name as in `named_parameters`, such as ``encoder.0.query.weight``.
    module_name, module, parameter_name
        Name of the module that holds the weight (``encoder.0.query``), the module itself, and the name of the parameter in it
        (``weight``).
    layout
        How the weight is stored; see `tilewright.patterns.Layout`.
    tensor
        The parameter itself, not a copy.
    reason
        Why the weight cannot be pruned, worded to follow its name in a sentence; empty if it can be pruned.
    """

    name: str
    module_name: str
    module: nn.Module
    parameter_name: str
    layout: Layout
    tensor: Tensor
    reason: str = ""

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Shape ``(N, K)`` of the weight as a matrix: outputs and inputs."""
        return matrix_shape(tuple(self.tensor.shape), self.layout)

    def refusal(self, pattern: Pattern) -> str:
        """Return why the weight cannot take a pattern, worded to follow its name in a sentence; empty if it can.

        In a convolution, n:m must run along the channels at one position of the kernel, because that is what sparse tensor cores
        multiply.
        """
        kernel = math.prod(self.tensor.shape[2:])
        if isinstance(pattern, NM) and self.layout == "conv" and kernel > 1 and self.tensor.shape[1] % pattern.m:
            channels = self.tensor.shape[1]
            what = (
                "it is depthwise: one channel"
                if channels == 1
                else f"{channels} channels, which is not a multiple of {pattern.m},"
            )
            return f"{what} at each position of its kernel, and groups of {pattern.m} would span positions, which saves nothing on hardware"
        return pattern.refusal(self.matrix_shape) or ""


def prunable(model: nn.Module) -> list[Weight]:
    """Return every weight of a model that can be pruned, in the order of `named_modules`.

    These are the weights of Linear, Conv1d, Conv2d and Conv3d (grouped convolutions as stored), of Hugging Face's ``Conv1D``,
    of RNN, LSTM and GRU and their cells, and of MultiheadAttention. Embeddings, transposed convolutions, weights shared
    by several modules, computed weights (parametrizations) and tensors that are not floating point are left out.

    Examples
    --------
    >>> [w.name for w in prunable(nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)))]
    ['0.weight', '2.weight']
    """
    return [weight for weight in survey(model) if not weight.reason]


def survey(model: nn.Module) -> list[Weight]:
    """Return the weights of `prunable` and, each with a reason, the weights of the same modules that cannot be pruned."""
    owners = _owners(model)
    weights = []
    for module_name, module in model.named_modules():
        for parameter_name, layout in _places(module):
            name = f"{module_name}.{parameter_name}" if module_name else parameter_name
            tensor = module._parameters.get(parameter_name)
            if tensor is None:
                tensor, reason = (
                    torch.empty(0, device="meta"),
                    "it is not a parameter but computed from others at each use",
                )
            else:
                reason = _refusal(module, parameter_name, tensor) or _tie(owners[id(tensor)], name)
            weights.append(Weight(name, module_name, module, parameter_name, layout, tensor, reason))
    return weights


def _places(module: nn.Module) -> Iterator[tuple[str, Layout]]:
    """Yield (parameter name, layout) of the weights that a module of this class has."""
    match module:
        case nn.Linear():
            yield "weight", "linear"
        case nn.modules.conv._ConvNd():
            yield "weight", "conv"
        case nn.MultiheadAttention():
            names = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
            yield from ((name, "linear") for name in names if module._parameters.get(name) is not None)
        case nn.RNNBase() | nn.RNNCellBase():
            yield from ((name, "linear") for name in module._parameters if _RECURRENT.fullmatch(name))
        # GPT-2's linear layer, recognized by its name and an attribute so that transformers need not be imported.
        case nn.Module() if type(module).__name__ == "Conv1D" and hasattr(module, "nf"):
            yield "weight", "transposed"


def _refusal(module: nn.Module, name: str, tensor: Tensor) -> str:
    if isinstance(module, _TRANSPOSED):
        return "it belongs to a transposed convolution, which no pattern covers because its outputs overlap"
    if nn.parameter.is_lazy(tensor):
        return "it has no shape yet; run one batch through the model first"
    if tensor.is_meta:
        return "it is on the meta device and holds no values; load the weights first"
    if tensor.dtype not in _DTYPES:
        return f"it is {tensor.dtype}, and only float32, float64, float16 and bfloat16 can be pruned"
    if not plain(tensor):
        return f"it is a {type(tensor).__name__}, and only plain and sharded (DTensor) parameters can be pruned"
    if not is_spread(tensor) and any(
        step == 0 and size > 1 for step, size in zip(tensor.stride(), tensor.shape, strict=True)
    ):
        return "several of its elements share memory, as after expand(); make the tensor contiguous"
    mask = f"{name}_mask"
    if hasattr(module, mask) and name not in module.__dict__.get("tilewright_patterns", ()):
        return f"its module already has an attribute named {mask}"
    return ""


def _owners(model: nn.Module) -> dict[int, list[str]]:
    """Return the names of every parameter, by identity; a tied parameter has several. A module with two names counts once."""
    owners: dict[int, list[str]] = {}
    for module_name, module in model.named_modules():
        for name, parameter in module._parameters.items():
            owners.setdefault(id(parameter), []).append(f"{module_name}.{name}" if module_name else name)
    return owners


def _tie(names: list[str], name: str) -> str:
    others = [other for other in names if other != name]
    return f"it is the same parameter as {others[0]}, which a mask would prune as well" if others else ""
