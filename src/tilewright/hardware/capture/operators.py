"""What each torch operator is to an accelerator: a product, a vector function, a move, or free.

The tables list ATen operators; element-wise ones are recognised by their tag. An operator in none of the tables is
counted as not modelled.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from .recorder import Recorder, tensors_in
from .weights import first_row

__all__ = ["attention", "step"]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


FREE = _names(
    "view _unsafe_view reshape t transpose permute expand expand_as slice select unsqueeze squeeze detach alias as_strided as_strided_ split "
    "split_with_sizes unbind chunk narrow movedim numpy_T mT view_as unfold diagonal lift_fresh lift lift_fresh_copy clone "
    "contiguous _to_copy to copy copy_ _reshape_alias swapaxes flatten view_as_real view_as_complex detach_ squeeze_ unsqueeze_ "
    "dropout _assert_async _assert_tensor_metadata sym_size sym_stride sym_numel is_same_size empty_like new_empty zeros_like "
    "ones_like full_like new_zeros new_ones new_full _local_scalar_dense item resize_ set_ positive fill_ zero_ "
    "_nested_tensor_size is_nonzero equal _has_compatible_shallow_copy_type"
)
"""Views, and copies in another layout or type: an accelerator reads data where it lies, in the type it computes in."""

MOVES = _names(
    "cat stack constant_pad_nd pad reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d replication_pad3d roll flip "
    "gather scatter scatter_ scatter_add scatter_add_ index index_put index_put_ _unsafe_index _unsafe_index_put index_select "
    "index_copy index_copy_ index_add index_add_ masked_select repeat repeat_interleave tile upsample_nearest2d upsample_bilinear2d "
    "_upsample_bilinear2d_aa upsample_bicubic2d upsample_nearest1d upsample_linear1d pixel_shuffle pixel_unshuffle im2col col2im "
    "tril triu slice_scatter select_scatter"
)

POOLS = _names(
    "max_pool1d max_pool2d max_pool3d max_pool2d_with_indices max_pool3d_with_indices avg_pool1d avg_pool2d avg_pool3d _adaptive_avg_pool2d "
    "_adaptive_avg_pool3d adaptive_avg_pool1d adaptive_max_pool2d adaptive_max_pool3d mean sum amax amin max min argmax argmin any all prod "
    "var std var_mean std_mean logsumexp cumsum cummax cumprod count_nonzero"
)
"""Pooling and other reductions, whose work is proportional to the elements read."""

NORMS = {
    "native_layer_norm": "layer_norm",
    "native_group_norm": "group_norm",
    "linalg_vector_norm": "vector_norm",
    "norm": "vector_norm",
    "_fused_rms_norm": "rms_norm",
    "rms_norm": "rms_norm",
}
BATCH_NORMS = _names(
    "native_batch_norm cudnn_batch_norm _native_batch_norm_legit_no_training _native_batch_norm_legit batch_norm "
    "_batch_norm_with_update _batch_norm_no_update"
)
SOFTMAX = _names("_softmax _log_softmax _safe_softmax softmax log_softmax")
FUSED_ATTENTION = _names(
    "_scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_efficient_attention "
    "_scaled_dot_product_cudnn_attention _scaled_dot_product_fused_attention_overrideable _scaled_dot_product_attention_math "
    "_scaled_dot_product_attention_math_for_mps scaled_dot_product_attention"
)
POINTWISE = _names(
    "masked_fill masked_fill_ where gelu silu hardswish hardsigmoid mish glu leaky_relu elu prelu threshold softplus hardtanh clamp lerp"
)  # fmt: skip


def step(recorder: Recorder, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: object) -> None:
    """Record one call of a torch operator.

    Parameters
    ----------
    recorder
        The recorder to add it to.
    func
        The operator, such as ``torch.ops.aten.addmm.default``.
    args, kwargs, out
        Its arguments and its result.
    """
    space, _, name = func._schema.name.partition("::")
    inputs = tensors_in((args, dict(kwargs)))
    free = name in FREE
    if all(recorder.known(tensor).constant for tensor in inputs):
        # It does not depend on the model's inputs, so it is computed once beforehand.
        recorder.passed_on(inputs, out, same=free)
    elif space not in ("aten", "prim", "prims"):
        recorder.unmodelled[f"{space}::{name}"] += 1
        recorder.passed_on(inputs, out, same=False)
    elif name in _PRODUCTS:
        _PRODUCTS[name](recorder, args, out)
    elif free:
        recorder.passed_on(inputs[::-1] if name == "copy_" else inputs, out, same=True)
    elif not _vector(recorder, name, args, inputs, out):
        if torch.Tag.pointwise in func.tags or name in POINTWISE:
            recorder.elementwise(name.rstrip("_").lstrip("_"), inputs, out)
        elif tensors_in(out):
            recorder.unmodelled[name] += 1
            recorder.passed_on(inputs, out, same=False)


def attention(recorder: Recorder, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, out: object) -> None:
    """Record scaled dot-product attention as its two products and the softmax between them."""
    *outer, M, K = query.shape
    N, width, copies = key.shape[-2], value.shape[-1], math.prod(outer)
    scores = copies * M * N
    extra = [] if mask is None else [mask]
    first = recorder.emit(
        "matmul",
        "qk",
        [query, key],
        None,
        M=M,
        N=N,
        K=K,
        copies=copies,
        reads=recorder.distinct(query) + recorder.distinct(key),
        writes=scores,
    )
    soft = recorder.emit(
        "softmax",
        "softmax",
        extra,
        None,
        after=[first],
        function="softmax",
        row=N,
        reads=scores + sum(recorder.distinct(t) for t in extra),
        writes=scores,
    )
    result = tensors_in(out)[:1]
    recorder.emit(
        "matmul",
        "pv",
        [value],
        result,
        after=[soft],
        M=M,
        N=width,
        K=N,
        copies=copies,
        reads=scores + recorder.distinct(value),
    )


def product(recorder: Recorder, left: Tensor, right: Tensor, out: object, added: Tensor | None = None) -> None:
    """Record ``left [.., M, K] @ right [.., K, N]``: a linear layer if one side is constant, else a product of activations."""
    if recorder.known(left).constant and not recorder.known(right).constant:
        left, right = right.mT, left.mT
    M, K = left.shape[-2:]
    N, copies = right.shape[-1], math.prod(left.shape[:-2])
    weight = recorder.known(right)
    if weight.constant and (copies == 1 or _one_for_all(right)):
        view = recorder.views.get(weight.weight, N, K, first_row(right))
        name = _named(recorder, weight.weight)
        recorder.emit("linear", "linear", [left], out, name=name, M=M * copies, N=N, K=K, weight=view)
    else:
        recorder.emit("matmul", "matmul", [left, right], out, M=M, N=N, K=K, copies=copies)
    if added is not None and not recorder.known(added).constant:
        recorder.elementwise("add", [added, *tensors_in(out)], out)


def _grouped(recorder: Recorder, args: tuple[Any, ...], out: object) -> None:
    """Record products of groups of tokens with one matrix each, as for experts; tokens are assumed to be spread evenly."""
    left, right = args[:2]
    K, N = right.shape[-2:]
    tokens = math.prod(left.shape[:-1])
    copies = min(tokens, right.shape[0]) if right.ndim == 3 else max(1, left.shape[0])
    reads = recorder.distinct(left) + copies * N * K
    M = -(-tokens // copies)
    recorder.emit("matmul", "experts", [left, right], out, M=M, N=N, K=K, copies=copies, reads=reads)


def _one_for_all(batch: Tensor) -> bool:
    """Return True if all matrices of a batch are one matrix, expanded."""
    outer = zip(batch.shape[:-2], batch.stride()[:-2], strict=True)
    return all(size == 1 or stride == 0 for size, stride in outer)


def _convolution(recorder: Recorder, args: tuple[Any, ...], out: object) -> None:
    x, weight, groups = args[0], args[1], int(args[8])
    (y,) = tensors_in(out)
    transposed, source = bool(args[6]), recorder.known(weight)
    grid = x if transposed else y
    M = grid.shape[0] * math.prod(grid.shape[2:])
    if transposed:
        K, N = weight.shape[0] // groups, weight.shape[1] * math.prod(weight.shape[2:])
    else:
        N, K = weight.shape[0] // groups, math.prod(weight.shape[1:])
    name = _named(recorder, source.weight)
    if not source.constant:
        recorder.emit("matmul", "conv", [x, weight], out, M=M, N=N, K=K, copies=groups)
    elif groups > 1 and recorder.views.pruned(source.weight):
        reads, writes = recorder.distinct(x) // groups, y.numel() // groups
        for group in range(groups):
            view = recorder.views.get(source.weight, N, K, group * N)
            fields = {"M": M, "N": N, "K": K, "weight": view, "reads": reads, "writes": writes}
            recorder.emit("conv", "conv", [x], out, name=f"{name}.{group}", **fields)
    else:
        view = recorder.views.get("" if transposed else source.weight, N, K)
        recorder.emit("conv", "conv", [x], out, name=name, M=M, N=N, K=K, copies=groups, weight=view)


def _vector(recorder: Recorder, name: str, args: tuple[Any, ...], inputs: list[Tensor], out: object) -> bool:
    """Record a vector function that is not element-wise, or a move; return False if it is neither."""
    first = tensors_in(out)[:1]
    if name in SOFTMAX:
        row = args[0].shape[args[1]] if args[0].ndim else 1
        recorder.emit("softmax", "softmax", inputs[:1], first, function=name.strip("_").replace("safe_", ""), row=row)
    elif name in NORMS:
        row = math.prod(args[1]) if name == "native_layer_norm" else inputs[0].shape[-1]
        recorder.emit("norm", NORMS[name], inputs[:1], first, function=NORMS[name], row=row)
    elif name in BATCH_NORMS:
        if not recorder.fold(inputs, out):
            recorder.emit("norm", "batch_norm", inputs[:1], first, function="batch_norm", row=inputs[0].shape[1])
    elif name in POOLS:
        function = name.strip("_").replace("adaptive_", "").replace("_with_indices", "").rstrip("123d")
        recorder.emit("pool", function, inputs[:1], first, function=function, row=_row(name, args, inputs, first))
    elif name in ("embedding", "_embedding_bag", "_embedding_bag_forward_only"):
        size = sum(tensor.numel() for tensor in first)
        recorder.emit(
            "embedding", "embedding", inputs[1:2], first, name=recorder.path, function="embedding", reads=size
        )
    elif name in ("cat", "stack") and sum(tensor.numel() > 0 for tensor in inputs) == 1:
        recorder.passed_on([tensor for tensor in inputs if tensor.numel()], out, same=True)
    elif name in MOVES:
        size = sum(tensor.numel() for tensor in first)
        recorder.emit("move", name.rstrip("_"), inputs, first, function=name.rstrip("_"), reads=size)
    else:
        return False
    return True


def _row(name: str, args: tuple[Any, ...], inputs: list[Tensor], out: list[Tensor]) -> int:
    """Return how many elements a reduction combines into one: its window, or inputs per output if there is none."""
    if "pool" in name and "adaptive" not in name:
        dimensions = int(name.partition("pool")[2][:1])
        return int(math.prod(args[1])) if len(args[1]) > 1 else int(args[1][0]) ** dimensions
    return max(1, inputs[0].numel() // max(1, sum(tensor.numel() for tensor in out)))


def _named(recorder: Recorder, weight: str) -> str:
    """Return the name of a product: that of its module, and of the parameter if the module has several."""
    path = recorder.path
    owner, _, parameter = weight.rpartition(".")
    inner = parameter.removesuffix("weight").rstrip("_.")
    if weight and owner == path and inner:
        return f"{path}.{inner}" if path else inner
    if owner.startswith(f"{path}." if path else ""):  # a child's weight used by its parent
        path = owner
    return path or "linear"


def _fused(recorder: Recorder, args: tuple[Any, ...], out: object) -> None:
    mask = args[3] if len(args) > 3 and isinstance(args[3], Tensor) else None
    attention(recorder, args[0], args[1], args[2], mask, out)


_PRODUCTS: Mapping[str, Callable[[Recorder, tuple[Any, ...], object], None]] = {
    "mm": lambda r, a, out: product(r, a[0], a[1], out),
    "bmm": lambda r, a, out: product(r, a[0], a[1], out),
    "_int_mm": lambda r, a, out: product(r, a[0], a[1], out),
    "_scaled_mm": lambda r, a, out: product(r, a[0], a[1], out),
    "mv": lambda r, a, out: product(r, a[0], a[1].unsqueeze(-1), out),
    "dot": lambda r, a, out: product(r, a[0].unsqueeze(0), a[1].unsqueeze(-1), out),
    "vdot": lambda r, a, out: product(r, a[0].unsqueeze(0), a[1].unsqueeze(-1), out),
    "addmm": lambda r, a, out: product(r, a[1], a[2], out, a[0]),
    "_addmm_activation": lambda r, a, out: product(r, a[1], a[2], out, a[0]),
    "addmv": lambda r, a, out: product(r, a[1], a[2].unsqueeze(-1), out, a[0]),
    "baddbmm": lambda r, a, out: product(r, a[1], a[2], out, a[0]),
    "_grouped_mm": _grouped,
    "convolution": _convolution,
    "_convolution": _convolution,
    "convolution_overrideable": _convolution,
    **dict.fromkeys(FUSED_ATTENTION, _fused),
}
