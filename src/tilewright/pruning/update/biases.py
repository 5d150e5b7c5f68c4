"""The bias that is added to what a weight multiplies."""

from torch import Tensor, nn

from ..tensors import is_spread
from ..weights import Weight

__all__ = ["bias_of"]


def bias_of(weight: Weight) -> Tensor | None:
    """Return the bias of a weight's outputs, ``[N]``, a view where it is a part of a longer one; None if there is none.

    Of packed attention projections kept apart it is their third of the packed bias; of recurrent weights their own of the two.
    """
    module, name = weight.module, weight.parameter_name
    if isinstance(module, nn.MultiheadAttention):
        found = _attention(module, name)
    elif isinstance(module, nn.RNNBase | nn.RNNCellBase):
        found = module._parameters.get(name.replace("weight", "bias", 1))
    else:
        found = module._parameters.get("bias")
    if found is None or is_spread(found) or found.shape != (weight.matrix_shape[0],):
        return None
    return found.detach()


def _attention(attention: nn.MultiheadAttention, name: str) -> Tensor | None:
    packed, width = attention.in_proj_bias, attention.embed_dim
    if packed is None or name == "in_proj_weight":
        return packed
    start = width * ("q_proj_weight", "k_proj_weight", "v_proj_weight").index(name)
    return packed[start : start + width]
