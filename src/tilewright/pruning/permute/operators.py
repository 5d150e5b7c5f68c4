"""How each operation of a captured graph couples the axes of its operands and its result: one short rule per operation.

A rule takes the walk and the operation's arguments by their names in the schema, and returns the axes of the result. It may require
axes to be permuted alike (`unify`) or not at all (`fix`). An operation without a rule fixes everything it touches.
"""

from typing import Any

from torch import fx

from . import reshaping
from .gates import gru, lstm, plain_rnn
from .reshaping import repeated, without
from .walk import Arguments, Axes, Rule, Walk, unknown

__all__ = ["RULES", "UNIFORM", "pointwise"]

UNIFORM = frozenset(
    [
        "zeros",
        "ones",
        "full",
        "zeros_like",
        "ones_like",
        "full_like",
        "new_zeros",
        "new_ones",
        "new_full",
        "empty_like",
        "scalar_tensor",
    ]
)
"""Operations that return tensors with all elements equal."""


def pointwise(walk: Walk, arguments: Arguments) -> Axes:
    """Couple all operands with the result, aligned from the right; broadcast axes stay free."""
    out = [walk.atoms.new(size) for size in walk.shape()]
    for value in arguments.values():
        for node in value if isinstance(value, list | tuple) else [value]:
            if isinstance(node, fx.Node):
                _align(walk, walk.axes(node), out)
    return out


def _align(walk: Walk, axes: Axes, out: Axes) -> None:
    for operand, result in zip(reversed(axes), reversed(out), strict=False):
        if walk.atoms.size(operand) == walk.atoms.size(result):
            walk.atoms.unify(result, operand)


def same(walk: Walk, arguments: Arguments) -> Axes:
    """Return the axes of the first operand, which the result equals element by element."""
    return walk.axes(next(iter(arguments.values())))


def linear(walk: Walk, arguments: Arguments) -> Axes:
    """Couple ``x[.., K] @ w[N, K].T + b[N]``."""
    x, w = walk.axes(arguments["input"]), walk.axes(arguments["weight"])
    walk.atoms.unify(x[-1], w[1])
    return _biased(walk, [*x[:-1], w[0]], arguments.get("bias"))


def _biased(walk: Walk, out: Axes, bias: Any, at: int = -1) -> Axes:
    if bias is not None:
        walk.atoms.unify(out[at], walk.axes(bias)[-1])
    return out


def matmul(walk: Walk, arguments: Arguments) -> Axes:
    """Couple ``a[.., I, K] @ b[.., K, J]`` with batch axes broadcast; vectors have no I or no J."""
    a, b = (walk.axes(arguments[name]) for name in _operands(arguments))
    rows, columns = a[-2:-1], b[-1:] if len(b) > 1 else []
    walk.atoms.unify(a[-1], b[-2] if len(b) > 1 else b[-1])
    batch = [walk.atoms.new(size) for size in walk.shape()[: len(walk.shape()) - len(rows) - len(columns)]]
    _align(walk, a[:-2], batch)
    _align(walk, b[:-2], batch)
    return batch + rows + columns


def _operands(arguments: Arguments) -> tuple[str, str]:
    left = next(name for name in ("mat1", "batch1", "self") if name in arguments)
    return left, next(name for name in ("mat2", "batch2", "other", "vec") if name in arguments)


def addmm(walk: Walk, arguments: Arguments) -> Axes:
    """Couple ``beta * c + alpha * a @ b`` with c broadcast."""
    out = matmul(walk, {name: value for name, value in arguments.items() if name != "self"})
    _align(walk, walk.axes(arguments["self"]), out)
    return out


def convolution(walk: Walk, arguments: Arguments) -> Axes:
    """Couple ``x[B, C, ..]`` with ``w[N, C, ..]``; depthwise convolutions keep their channels, other grouped ones fix them."""
    atoms = walk.atoms
    x, w = walk.axes(arguments["input"]), walk.axes(arguments["weight"])
    spatial = len(w) - 2
    if arguments.get("transposed"):
        return unknown(walk, arguments)[0]
    channels, groups = x[-1 - spatial], arguments.get("groups", 1)
    if groups == 1:
        atoms.unify(channels, w[1])
    elif groups == atoms.size(channels) == atoms.size(w[0]):
        atoms.unify(channels, w[0])
    else:
        reason = f"grouped convolution at {walk.where}"
        atoms.fix(channels, reason)
        atoms.fix(w[0], reason)
        atoms.fix(w[1], reason)
    for axis in (*x[-spatial:], *w[2:]):
        atoms.fix(axis, f"a spatial axis of {walk.where}")
    out = [
        *x[: -1 - spatial],
        w[0],
        *(atoms.new(size, f"a spatial axis of {walk.where}") for size in walk.shape()[-spatial:]),
    ]
    return _biased(walk, out, arguments.get("bias"), -1 - spatial)


def channel_norm(walk: Walk, arguments: Arguments) -> Axes:
    """Couple batch and instance normalization: one scale, shift, mean and variance per channel."""
    x = walk.axes(arguments["input"])
    for name in ("weight", "bias", "running_mean", "running_var"):
        if arguments.get(name) is not None:
            walk.atoms.unify(x[1], walk.axes(arguments[name])[0])
    return x


def layer_norm(walk: Walk, arguments: Arguments) -> Axes:
    """Couple layer and RMS normalization over the last axes."""
    x = walk.axes(arguments["input"])
    count = len(arguments["normalized_shape"])
    for name in ("weight", "bias"):
        if arguments.get(name) is not None:
            _align(walk, walk.axes(arguments[name]), x)
    walk.note(x[:-count])  # the statistics are shared by everything that is normalized together
    return x


def prelu(walk: Walk, arguments: Arguments) -> Axes:
    """Couple PReLU: one slope for all channels, or one per channel (the second axis)."""
    x, slopes = walk.axes(arguments["self"]), walk.axes(arguments["weight"])
    if walk.atoms.size(slopes[-1]) > 1:
        walk.atoms.unify(x[1] if len(x) > 1 else x[0], slopes[-1])
    return x


def group_norm(walk: Walk, arguments: Arguments) -> Axes:
    """Fix the channels of group normalization, whose index decides the group."""
    x = walk.axes(arguments["input"])
    walk.atoms.fix(x[1], f"group normalisation at {walk.where}")
    return channel_norm(walk, arguments)


def embedding(walk: Walk, arguments: Arguments) -> Axes:
    """Fix the rows of an embedding, which are looked up by index; its columns are channels."""
    weight = walk.axes(arguments["weight"])
    walk.atoms.fix(weight[0], "rows of an embedding are looked up by index")
    for axis in walk.axes(arguments["indices"]):
        walk.atoms.fix(axis, "tokens keep their order")
    return [*walk.axes(arguments["indices"]), weight[1]]


def attention(walk: Walk, arguments: Arguments) -> Axes:
    """Couple ``softmax(q @ k.T) @ v``; grouped-query attention repeats the heads of k and v."""
    atoms = walk.atoms
    q, k, v = (walk.axes(arguments[name]) for name in ("query", "key", "value"))
    atoms.unify(q[-1], k[-1])
    atoms.unify(k[-2], v[-2])
    for other in (k, v):
        if arguments.get("enable_gqa") and atoms.size(other[-3]) != atoms.size(q[-3]):
            other[-3] = repeated(walk, other[-3], atoms.size(q[-3]))
        _align(walk, other[:-2], q[:-2])
    if isinstance(arguments.get("attn_mask"), fx.Node):
        _align(walk, walk.axes(arguments["attn_mask"]), [*q[:-1], k[-2]])
    walk.note([*q[:-1], k[-2]])
    walk.note(q[:-1])
    if arguments.get("is_causal"):
        atoms.fix(q[-2], "tokens keep their order")
        atoms.fix(k[-2], "tokens keep their order")
    return [*q[:-1], v[-1]]


def softmax(walk: Walk, arguments: Arguments) -> Axes:
    """Return the axes unchanged, and note a tensor without the softmax axis, along which everything is mixed."""
    x = walk.axes(arguments["self"])
    walk.note(without(x, [arguments["dim"]]))
    return x


def reduce(walk: Walk, arguments: Arguments) -> Axes:
    """Drop the reduced axes: sums, means, extremes and norms do not depend on their order."""
    x = walk.axes(arguments["self"])
    dims = arguments.get("dim")
    dims = list(range(len(x))) if dims is None or dims == [] else dims if isinstance(dims, list | tuple) else [dims]
    if arguments.get("keepdim"):
        reduced = {dim % len(x) for dim in dims}
        return [((),) if i in reduced else axis for i, axis in enumerate(x)]
    return without(x, dims)


def constant(walk: Walk, arguments: Arguments) -> Axes:
    """Return free axes: all elements of the result are equal, so any order will do."""
    return [walk.atoms.new(size) for size in walk.shape()]


def _named(rule: Rule, names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


RULES: dict[str, Rule] = {
    **_named(
        same, "to type_as contiguous alias detach dropout feature_dropout alpha_dropout lift_fresh_copy lift_fresh"
    ),
    **_named(pointwise, "hardswish relu6 copy where"),
    **_named(linear, "linear"),
    **_named(matmul, "matmul mm bmm mv"),
    **_named(addmm, "addmm baddbmm"),
    **_named(convolution, "conv1d conv2d conv3d convolution"),
    **_named(channel_norm, "batch_norm instance_norm"),
    **_named(layer_norm, "layer_norm rms_norm"),
    **_named(prelu, "prelu"),
    **_named(group_norm, "group_norm"),
    **_named(embedding, "embedding"),
    **_named(attention, "scaled_dot_product_attention"),
    **_named(softmax, "softmax log_softmax _softmax _log_softmax"),
    **_named(reduce, "sum mean amax amin norm linalg_vector_norm std var logsumexp any all prod"),
    **_named(
        reshaping.pool,
        "max_pool2d avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d upsample_nearest2d upsample_bilinear2d",
    ),
    **_named(reshaping.pool1d, "max_pool1d avg_pool1d adaptive_avg_pool1d adaptive_max_pool1d"),
    **_named(reshaping.pad, "constant_pad_nd pad"),
    **_named(lstm, "lstm"),
    **_named(gru, "gru"),
    **_named(plain_rnn, "rnn_tanh rnn_relu"),
    **_named(reshaping.reshape, "view reshape _unsafe_view flatten unflatten"),
    **_named(reshaping.transpose, "transpose t swapaxes"),
    **_named(reshaping.reverse, "numpy_T"),
    **_named(reshaping.adjoint, "mT adjoint"),
    **_named(reshaping.permute, "permute"),
    **_named(reshaping.expand, "expand expand_as"),
    **_named(reshaping.repeat, "repeat"),
    **_named(reshaping.repeat_interleave, "repeat_interleave"),
    **_named(reshaping.take, "slice narrow"),
    **_named(reshaping.select, "select"),
    **_named(reshaping.unbind, "unbind"),
    **_named(reshaping.split, "split split_with_sizes chunk tensor_split"),
    **_named(reshaping.cat, "cat concat"),
    **_named(reshaping.stack, "stack"),
    **_named(reshaping.squeeze, "squeeze unsqueeze"),
    **_named(reshaping.index, "index"),
    **_named(reshaping.along, "cumsum cumprod flip roll"),
    **_named(reshaping.triangle, "tril triu"),
    **dict.fromkeys(UNIFORM, constant),
}
