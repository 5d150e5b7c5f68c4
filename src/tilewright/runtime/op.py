"""The torch operator ``tilewright::sparse_linear``: the CPU kernels, seen by torch.compile and torch.export.

Internal: called by modules. Index tensors are validated in full on first use and after every write that torch counts, so
that invalid tensors cause an error rather than a crash. Writes behind torch's back (``.data``, ``.numpy()``) go unnoticed.
"""

import atexit
from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from ..errors import ArgumentError, NotSupportedError
from ..kernels import MOST_THREADS, KernelArrays, linear_arrays
from .tensors import ARRAYS, packed_of

__all__ = ["dense_weight", "run", "sparse_linear"]

_LIBRARY: Any = torch.library.Library("tilewright", "DEF")  # type: ignore[no-untyped-call]  # as torch ships it
_LIBRARY.define(
    "sparse_linear(Tensor x, Tensor values, Tensor columns, Tensor pointers, Tensor? rows, Tensor? positions, "
    "Tensor? residual_values, Tensor? residual_columns, Tensor? residual_pointers, Tensor? bias, "
    "str pattern, int outputs, int inputs, int tile, str activation) -> Tensor",
    tags=(torch.Tag.pt2_compliant_tag, torch.Tag.needs_fixed_stride_order),
)
_LIBRARY.define(
    "dense_weight(Tensor values, Tensor columns, Tensor pointers, Tensor? rows, Tensor? positions, "
    "Tensor? residual_values, Tensor? residual_columns, Tensor? residual_pointers, str pattern, int outputs, int inputs, int tile) "
    "-> Tensor",
    tags=(torch.Tag.pt2_compliant_tag,),
)

_Optional = torch.Tensor | None
_seen: Any = WeakTensorKeyDictionary()
atexit.register(_seen.clear)  # traced programs keep tensors alive past the end of the bindings


def _prepare(tensors: tuple[_Optional, ...], pattern: str, outputs: int, inputs: int, tile: int) -> KernelArrays:
    """Return the kernel arrays of these tensors, validated once as long as the tensors live and do not change."""
    values = tensors[0]
    assert values is not None
    key = (*map(_identity, tensors), pattern, outputs, inputs, tile)
    known = _seen.get(values)
    if known is not None and known[0] == key:
        arrays: KernelArrays = known[1]
        return arrays
    packed = packed_of(dict(zip(ARRAYS, tensors, strict=True)), pattern, outputs, inputs, tile)
    arrays = KernelArrays.of(packed)
    _seen[values] = (key, arrays)
    return arrays


def _identity(tensor: _Optional) -> tuple[int, int, int] | None:
    """Return a key that differs for every tensor, and for a tensor after a write (which inference tensors do not count)."""
    if tensor is None:
        return None
    return tensor.data_ptr(), tensor.numel(), 0 if tensor.is_inference() else tensor._version


def run(
    x: torch.Tensor,
    values: torch.Tensor,
    columns: torch.Tensor,
    pointers: torch.Tensor,
    rows: _Optional,
    positions: _Optional,
    residual_values: _Optional,
    residual_columns: _Optional,
    residual_pointers: _Optional,
    bias: _Optional,
    pattern: str,
    outputs: int,
    inputs: int,
    tile: int,
    activation: str,
) -> torch.Tensor:
    """Compute the operator on the CPU; the arguments are those of its schema."""
    tensors = (values, columns, pointers, rows, positions, residual_values, residual_columns, residual_pointers)
    _check(x, inputs)
    arrays = _prepare(tensors, pattern, outputs, inputs, tile)
    out = torch.empty((*x.shape[:-1], outputs), dtype=torch.float32)
    count = x.numel() // inputs
    linear_arrays(
        x.detach().contiguous().numpy().reshape(count, inputs),
        arrays,
        None if bias is None else bias.detach().numpy(),
        activation,  # type: ignore[arg-type]  # the kernels reject unknown ones
        threads=min(torch.get_num_threads(), MOST_THREADS),
        out=out.numpy().reshape(count, outputs),
    )
    return out


def _check(x: torch.Tensor, inputs: int) -> None:
    if x.device.type != "cpu" or x.layout != torch.strided:
        raise ArgumentError(f"a sparse linear layer runs on the CPU, but x is on {x.device.type}; move x with .cpu()")
    if x.dtype != torch.float32:
        raise ArgumentError(f"a sparse linear layer on the CPU takes float32, got {x.dtype}; convert x with .float()")
    if x.ndim == 0 or x.shape[-1] != inputs:
        raise ArgumentError(f"the last dimension must be the layer's {inputs} inputs, but x has shape {list(x.shape)}")


def _fake(x: torch.Tensor, *rest: object) -> torch.Tensor:
    *_, outputs, inputs, _tile, _activation = rest
    assert isinstance(outputs, int)
    assert isinstance(inputs, int)
    torch._check(  # type: ignore[no-untyped-call]
        x.shape[-1] == inputs, lambda: f"the last dimension must be the layer's {inputs} inputs"
    )
    return x.new_empty((*x.shape[:-1], outputs))


def _no_gradient(ctx: object, *gradients: torch.Tensor) -> None:
    raise NotSupportedError(
        "a packed layer is for inference and has no gradient; train the masked dense model and pack it afterwards with "
        "tilewright.save"
    )


def _unpack(values: torch.Tensor, *rest: Any) -> torch.Tensor:
    """Return the dense weight ``[N, K]`` of the tensors, including zeros."""
    *tensors, pattern, outputs, inputs, tile = rest
    packed = packed_of(dict(zip(ARRAYS, (values, *tensors), strict=True)), pattern, outputs, inputs, tile)
    return torch.from_numpy(packed.unpack())


def _batched(info: Any, dims: tuple[int | None, ...], x: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, int]:
    """Handle `torch.vmap`: a batch of inputs is an additional leading axis; batches of weights are not supported."""
    if any(dim is not None for dim in dims[1:]):
        raise NotSupportedError(
            "torch.vmap cannot batch the packed weight of a sparse linear layer; batch only its input"
        )
    assert dims[0] is not None
    return sparse_linear(x.movedim(dims[0], 0), *rest), 0


_LIBRARY.impl("sparse_linear", run, "CPU")
_LIBRARY.impl("dense_weight", _unpack, "CPU")
torch.library.register_fake(
    "tilewright::dense_weight", lambda values, *rest: values.new_empty(rest[-3:-1]), lib=_LIBRARY
)
torch.library.register_vmap("tilewright::sparse_linear", _batched, lib=_LIBRARY)
torch.library.register_fake("tilewright::sparse_linear", _fake, lib=_LIBRARY)
torch.library.register_autograd("tilewright::sparse_linear", _no_gradient, lib=_LIBRARY)
torch.library.register_autocast("tilewright::sparse_linear", "cpu", torch.float32, lib=_LIBRARY)

sparse_linear = torch.ops.tilewright.sparse_linear.default
"""``sparse_linear(x, *arrays, bias, pattern, outputs, inputs, tile, activation)``; see `SparseLinear`."""

dense_weight = torch.ops.tilewright.dense_weight.default
"""``dense_weight(*arrays, pattern, outputs, inputs, tile)``: the dense weight, for compiled code that computes with it."""
