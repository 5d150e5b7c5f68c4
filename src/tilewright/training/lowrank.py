"""`LowRank`: a masked layer with a low-rank adapter inside its mask, so that training sees the weight that merging will store.

The layer's class becomes a subclass of its own class, created here; it keeps weight, mask and names, and only `forward` changes.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckFailed
from ..pruning import Weight, is_spread

__all__ = ["LowRank", "adapt_", "refusal", "rest_", "stored"]

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)

_made: dict[type[nn.Module], type[nn.Module]] = {}


class LowRank(nn.Module):
    """A mixin that gives a layer the effective weight ``(W + scale * B @ A) * mask``.

    Attributes
    ----------
    lora_A : Parameter
        The adapter's A, ``[rank, K]``, with K in the memory order of the stored weight.
    lora_B : Parameter
        The adapter's B, ``[N, rank]``.
    lora_scale : float
        The factor of ``B @ A``, alpha / rank.
    """

    lora_A: nn.Parameter  # noqa: N815 (the name in state dicts of adapters)
    lora_B: nn.Parameter  # noqa: N815 (peft's spelling)
    lora_scale: float

    def effective(self) -> Tensor:
        """Return the weight including the adapter, in the stored shape and dtype."""
        weight, mask = self._parameters["weight"], self._buffers.get("weight_mask")
        assert weight is not None
        if mask is None:
            raise CheckFailed(
                f"a {type(self).__name__} has an adapter but no longer a mask; call merge_lora_ before remove_masks_, so that the "
                "merged weight keeps the pattern"
            )
        wide = torch.promote_types(weight.dtype, torch.float32)
        # Autocast would round the product to fewer bits than a merge does, which runs without it.
        with torch.autocast(weight.device.type, enabled=False):
            product = self.lora_B.to(wide) @ self.lora_A.to(wide)
            full = (weight.to(wide) + self.lora_scale * stored(product, self)) * mask
        effective: Tensor = full.to(weight.dtype)
        return effective

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output for the effective weight."""
        weight, layer = self.effective(), _as_any(self)
        if isinstance(self, nn.Linear):
            return nn.functional.linear(x, weight, layer.bias)
        if isinstance(self, nn.modules.conv._ConvNd):
            result: Tensor = layer._conv_forward(x, weight, layer.bias)
            return result
        return torch.addmm(layer.bias, x.reshape(-1, x.shape[-1]), weight).view(*x.shape[:-1], -1)

    def extra_repr(self) -> str:
        """Return the layer's own description with the rank appended."""
        inner = super().extra_repr()
        rank = f"rank={self.lora_A.shape[0]}"
        return f"{inner}, {rank}" if inner else rank

    def __reduce__(self) -> tuple[Any, ...]:
        # The class is created at run time and has no importable name, so a pickle refers to the class it extends.
        return _bare, (base(self),), self.__dict__


def refusal(weight: Weight, model: nn.Module) -> str:
    """Return why a weight cannot have an adapter, as a clause that follows its name; an empty string if it can."""
    module = weight.module
    if isinstance(module, LowRank):
        return "it already has an adapter"
    if "weight_mask" not in module._buffers or weight.parameter_name != "weight":
        if f"{weight.parameter_name}_mask" not in module._buffers:
            return "it has no mask"
        return f"its {type(module).__name__} reads the weight directly, bypassing any adapter"
    if type(module) not in _LAYERS and weight.layout != "transposed":
        return f"its {type(module).__name__} may bypass an adapter; only Linear, Conv1d to Conv3d and Hugging Face's Conv1D can have one"
    parent = model.get_submodule(weight.module_name.rpartition(".")[0])
    if isinstance(parent, nn.TransformerEncoderLayer):
        return "in evaluation mode its TransformerEncoderLayer reads the weight directly, bypassing any adapter"
    if is_spread(weight.tensor):
        return "it is sharded; add adapters before sharding the model"
    return ""


def adapt_(weight: Weight, rank: int, scale: float, generator: torch.Generator) -> None:
    """Add an adapter to a weight's layer, initially without effect: A random, B zero (Hu et al., arXiv 2106.09685, 4.1)."""
    module, (N, K) = weight.module, weight.matrix_shape
    wide = torch.promote_types(weight.tensor.dtype, torch.float32)
    bound = K**-0.5
    first = torch.empty(rank, K, dtype=wide).uniform_(-bound, bound, generator=generator)
    module.__class__ = _with_adapter(type(module))
    device = weight.tensor.device
    module.register_parameter("lora_A", nn.Parameter(first.to(device)))
    module.register_parameter("lora_B", nn.Parameter(torch.zeros(N, rank, dtype=wide, device=device)))
    module.__dict__["lora_scale"] = scale


def rest_(layer: LowRank) -> None:
    """Remove the adapter without merging it."""
    module = _as_any(layer)
    del module.lora_A, module.lora_B, module.lora_scale
    module.__class__ = base(layer)


def base(layer: LowRank) -> type[nn.Module]:
    """Return the class of a layer before it got its adapter."""
    kind: type[nn.Module] = type(layer).__bases__[1]
    return kind


def stored(product: Tensor, module: Any) -> Tensor:
    """Return a product ``B @ A``, ``[N, K]``, in the shape of the layer's stored weight."""
    weight = module._parameters["weight"]
    transposed = not isinstance(module, _LAYERS)
    return product.T if transposed else product.view(weight.shape)


def _with_adapter(kind: type[nn.Module]) -> type[nn.Module]:
    if kind not in _made:
        _made[kind] = type(kind.__name__, (LowRank, kind), {"__doc__": LowRank.__doc__})
    return _made[kind]


def _bare(kind: type[nn.Module]) -> nn.Module:
    made = _with_adapter(kind)
    return made.__new__(made)


def _as_any(layer: Any) -> Any:
    return layer
