"""The inputs of a weight: rows of K columns, in the order in which patterns see the weight.

`hosts` finds the module whose call carries the inputs, and `seen` reads them from its arguments.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ...errors import NotSupportedError
from ..weights import Weight
from .padding import Padding
from .recurrent import cell_inputs, recurrent_inputs

__all__ = ["Rows", "hosts", "seen", "shown"]

Rows = tuple[slice, Tensor]
"""A range of a weight's outputs, and their inputs ``[M, K]``."""

_CHUNK = 1 << 24
"""Largest number of elements of an unfolded convolution input in memory at once."""


def hosts(model: nn.Module, weights: Sequence[Weight]) -> dict[str, tuple[nn.Module, list[Weight]]]:
    """Return the modules whose calls carry the inputs of the weights, by name, in the order of `named_modules`.

    This is the weight's own module, except for the output projection of `MultiheadAttention`, which is used without being called.
    """
    attentions = {id(m.out_proj): name for name, m in model.named_modules() if isinstance(m, nn.MultiheadAttention)}
    by_host: dict[str, list[Weight]] = {}
    for weight in weights:
        by_host.setdefault(attentions.get(id(weight.module), weight.module_name), []).append(weight)
    modules = dict(model.named_modules())
    return {name: (modules[name], by_host[name]) for name in modules if name in by_host}


def shown(host: nn.Module, weight: Weight, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the object from which a call's inputs are read; two linear weights with the same object have the same rows."""
    if isinstance(host, nn.RNNBase | nn.RNNCellBase | nn.MultiheadAttention | nn.modules.conv._ConvNd):
        return (weight.name, args)
    return args[0] if args else next(iter(kwargs.values()), None)


def seen(
    host: nn.Module, weight: Weight, args: Sequence[Any], kwargs: Mapping[str, Any], tokens: Padding | None
) -> Iterator[Rows]:
    """Yield the inputs of a weight in one call of its host, as rows; a range of outputs may come in several pieces.

    Parameters
    ----------
    host, args, kwargs
        The module called, and the arguments of the call.
    weight
        Weight whose inputs are read.
    tokens
        Positions that are real; None if all are.

    Raises
    ------
    NotSupportedError
        If the inputs cannot be read from the call.
    """
    outputs = slice(0, weight.matrix_shape[0])
    match host:
        case nn.modules.conv._ConvNd():
            yield from _convolution(host, weight.name, args[0] if args else kwargs["input"], tokens)
        case nn.MultiheadAttention():
            for rows, inputs in _attention(host, weight, args, kwargs):
                yield rows, _real(inputs, tokens, weight.name)
        case nn.RNNBase():
            packed = isinstance(args[0] if args else kwargs["input"], PackedSequence)  # without padding
            inputs = recurrent_inputs(host, weight.parameter_name, args, kwargs)
            yield outputs, _real(inputs, None if packed else tokens, weight.name)
        case nn.RNNCellBase():
            yield outputs, cell_inputs(host, weight.parameter_name, args, kwargs)
        case _:
            inputs = shown(host, weight, args, kwargs)
            if not isinstance(inputs, Tensor) or inputs.shape[-1] != weight.matrix_shape[1]:
                raise NotSupportedError(
                    f"{weight.name} has {weight.matrix_shape[1]} inputs, but its module was called with "
                    f"{list(inputs.shape) if isinstance(inputs, Tensor) else type(inputs).__name__}; add it to ignore, or "
                    "use score='magnitude'"
                )
            yield outputs, _real(inputs, tokens, weight.name)


def _real(inputs: Tensor, tokens: Padding | None, name: str) -> Tensor:
    """Return inputs ``[..., K]`` as rows ``[M, K]``, without padding."""
    inputs = inputs.detach()
    return inputs.reshape(-1, inputs.shape[-1]) if tokens is None else tokens.rows(inputs, name)


def _convolution(conv: nn.Module, name: str, inputs: Tensor, tokens: Padding | None) -> Iterator[Rows]:
    """Yield the patches under the kernel for each group of outputs, as ``kernel * C`` columns with channels varying fastest."""
    assert isinstance(conv, nn.modules.conv._ConvNd)
    dims = len(conv.kernel_size)
    inputs = inputs.detach()
    if inputs.ndim == dims + 1:
        inputs = inputs.unsqueeze(0)
    out, channels = conv.out_channels // conv.groups, conv.in_channels // conv.groups
    size = max(1, inputs[0].numel() * int(torch.tensor(conv.kernel_size).prod()))
    for start in range(0, len(inputs), max(1, _CHUNK // size)):
        part = slice(start, start + max(1, _CHUNK // size))
        patches = unfold(conv, inputs[part])  # [B, C, *positions, *kernel]
        rows = patches.movedim(1, -1)
        mask = None if tokens is None else tokens.part(part)
        for group in range(conv.groups):
            columns = rows[..., group * channels : (group + 1) * channels]
            yield slice(group * out, (group + 1) * out), _real(columns.flatten(1 + dims), mask, name)


def unfold(conv: nn.modules.conv._ConvNd, inputs: Tensor) -> Tensor:
    """Return the padded input under the kernel at every position, ``[B, C, *positions, *kernel]``."""
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    dims = len(conv.kernel_size)
    inputs = nn.functional.pad(inputs, _padding(conv), mode=mode)
    for dim in range(dims):
        kernel, stride, dilation = conv.kernel_size[dim], conv.stride[dim], conv.dilation[dim]
        axis = 2 + dim
        positions = (inputs.shape[axis] - dilation * (kernel - 1) - 1) // stride + 1
        starts = torch.arange(positions, device=inputs.device).mul(stride).unsqueeze(1)
        index = starts + torch.arange(kernel, device=inputs.device).mul(dilation)
        patches = inputs.index_select(axis, index.flatten())
        split = (*patches.shape[:axis], positions, kernel, *patches.shape[axis + 1 :])
        inputs = patches.reshape(split).movedim(axis + 1, -1)
    return inputs


def _padding(conv: nn.modules.conv._ConvNd) -> list[int]:
    """Return the padding as `torch.nn.functional.pad` takes it: last dimension first, before and after."""
    sides: list[int] = []
    for dim in reversed(range(len(conv.kernel_size))):
        if conv.padding == "same":  # torch puts the odd element after
            total = conv.dilation[dim] * (conv.kernel_size[dim] - 1)
            sides += [total // 2, total - total // 2]
        else:
            side = 0 if isinstance(conv.padding, str) else int(conv.padding[dim])
            sides += [side, side]
    return sides


def _attention(
    attention: nn.MultiheadAttention, weight: Weight, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Iterator[Rows]:
    """Yield the output ranges of an attention weight with their inputs, batch first."""
    arguments = {**dict(zip(("query", "key", "value"), args, strict=False)), **kwargs}
    inputs_by_kind = [arguments[name] for name in ("query", "key", "value")]
    if weight.module is attention.out_proj:
        heads = _before_projection(attention, args, kwargs)
        yield (
            slice(0, attention.embed_dim),
            heads if attention.batch_first or heads.ndim == 2 else heads.transpose(0, 1),
        )
        return
    ordered = [x if attention.batch_first or x.ndim == 2 else x.transpose(0, 1) for x in inputs_by_kind]
    if weight.parameter_name != "in_proj_weight":
        kind = ("q_proj_weight", "k_proj_weight", "v_proj_weight").index(weight.parameter_name)
        yield slice(0, weight.matrix_shape[0]), ordered[kind]
    elif inputs_by_kind[0] is inputs_by_kind[1] is inputs_by_kind[2]:
        yield slice(0, 3 * attention.embed_dim), ordered[0]
    else:
        for kind, inputs in enumerate(ordered):
            yield slice(kind * attention.embed_dim, (kind + 1) * attention.embed_dim), inputs


def _before_projection(attention: nn.MultiheadAttention, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """Return the inputs of the output projection, by running the attention with the identity in its place."""
    parameters = attention.out_proj._parameters
    originals = dict(parameters)
    matrix = originals["weight"]
    assert matrix is not None
    try:
        parameters["weight"] = nn.Parameter(torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device))
        if originals["bias"] is not None:
            parameters["bias"] = nn.Parameter(torch.zeros_like(originals["bias"]))
        heads: Tensor = attention.forward(*args, **kwargs)[0]
    finally:
        parameters.update(originals)
    return heads
