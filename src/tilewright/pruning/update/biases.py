"""The bias that belongs to a weight."""

from torch import Tensor, nn

from ..tensors import is_spread
from ..weights import Weight

__all__ = ["bias_of"]


def bias_of(weight: Weight) -> Tensor | None:
    """Return the bias ``[N]`` of a weight's outputs, as a view if it is part of a longer one; None if there is none.

    For the separate query, key and value weights of an attention it is a third of the packed bias; for a recurrent weight it is the
    bias of the same kind (``ih`` or ``hh``).
    """
    module, name = weight.module, weight.parameter_name
    if isinstance(module, nn.MultiheadAttention):
        bias = _attention(module, name)
    elif isinstance(module, nn.RNNBase | nn.RNNCellBase):
        bias = module._parameters.get(name.replace("weight", "bias", 1))
    else:
        bias = module._parameters.get("bias")
    if bias is None or is_spread(bias) or bias.shape != (weight.matrix_shape[0],):
        return None
    return bias.detach()


def _attention(attention: nn.MultiheadAttention, name: str) -> Tensor | None:
    packed, width = attention.in_proj_bias, attention.embed_dim
    if packed is None or name == "in_proj_weight":
        return packed
    start = width * ("q_proj_weight", "k_proj_weight", "v_proj_weight").index(name)
    return packed[start : start + width]
