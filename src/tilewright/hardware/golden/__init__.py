"""The bit-exact reference of what the engine computes, for RTL and cycle models. NumPy only.

`sparse_dense` and `dense_dense` are the products (`by_beats` defines them), `requantise` brings accumulators back to
int8, `SoftmaxUnit`, `gelu_table` and `LayerNormUnit` are the vector unit, and `IntegerLayer` is a whole encoder layer.
``docs/reference/golden.md`` states every width and rounding.
"""

from .encoder import IntegerLayer, IntegerLinear, best_scale
from .floats import LINEARS, FloatLayer, sqnr
from .functions import LayerNormUnit, gelu_table, layer_norm_row, look_up
from .products import K_LIMIT, IntegerWeight, by_beats, dense_dense, sparse_dense
from .requantise import FixedPoint, Quantised, dequantise, fixed_point, quantise, requantise, round_shift, scale_for
from .softmax import LONGEST_ROW, SoftmaxUnit, softmax_row

__all__ = [
    "K_LIMIT",
    "LINEARS",
    "LONGEST_ROW",
    "FixedPoint",
    "FloatLayer",
    "IntegerLayer",
    "IntegerLinear",
    "IntegerWeight",
    "LayerNormUnit",
    "Quantised",
    "SoftmaxUnit",
    "best_scale",
    "by_beats",
    "dense_dense",
    "dequantise",
    "fixed_point",
    "gelu_table",
    "layer_norm_row",
    "look_up",
    "quantise",
    "requantise",
    "round_shift",
    "scale_for",
    "softmax_row",
    "sparse_dense",
    "sqnr",
]
