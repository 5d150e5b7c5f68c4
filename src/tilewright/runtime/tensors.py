"""Conversion between torch tensors and the NumPy arrays of `Packed`, without copying."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import FormatError
from ..formats import Packed, RawTensor, Residual, ValueType
from ..patterns import parse

__all__ = ["ARRAYS", "arrays_of", "packed_of", "raw_of", "tensor_of", "value_array"]

ARRAYS = (
    "values",
    "columns",
    "pointers",
    "rows",
    "positions",
    "residual_values",
    "residual_columns",
    "residual_pointers",
)
"""Names of the arrays of a packed weight, in the order of the custom operator's arguments."""

_RAW = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.uint16: "U16",
    torch.uint32: "U32",
    torch.uint64: "U64",
    torch.bool: "BOOL",
    torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}
_TORCH = {name: dtype for dtype, name in _RAW.items()}

# torch supports few operators on uint16 and uint32, so column numbers are held in the signed type of the same width.
_SIGNED = {np.dtype(np.uint16): np.int16, np.dtype(np.uint32): np.int32}


def tensor_of(raw: RawTensor) -> torch.Tensor:
    """Return a tensor of a file as a torch tensor that shares its (privately mapped) memory.

    Raises
    ------
    FormatError
        If torch has no such type.
    """
    dtype = _TORCH.get(raw.dtype)
    if dtype is None:
        raise FormatError(
            f"torch has no type for the {raw.dtype} tensors of this checkpoint; convert them before loading"
        )
    aligned = raw.data.ctypes.data % dtype.itemsize == 0 and raw.data.flags.writeable
    return torch.from_numpy(raw.data if aligned else raw.data.copy()).view(dtype).reshape(raw.shape)


def raw_of(tensor: torch.Tensor) -> RawTensor:
    """Return a tensor as bytes for a file; contiguous CPU tensors share their memory."""
    dtype = _RAW.get(tensor.dtype)
    if dtype is None:
        raise FormatError(f"a checkpoint cannot hold {tensor.dtype} tensors; convert them before saving")
    plain = tensor.detach().cpu().contiguous()
    return RawTensor(dtype, tuple(tensor.shape), plain.reshape(-1).view(torch.uint8).numpy())


def value_array(tensor: torch.Tensor) -> tuple[NDArray[Any], ValueType]:
    """Return a weight as an array for `pack`, with bfloat16 as its bits, and the type of its values.

    Raises
    ------
    FormatError
        If the weight is not float32, float16 or bfloat16.
    """
    plain = tensor.detach().cpu()
    if plain.dtype == torch.bfloat16:
        return plain.contiguous().view(torch.int16).numpy().view(np.uint16), "bfloat16"
    if plain.dtype == torch.float32:
        return plain.numpy(), "float32"
    if plain.dtype == torch.float16:
        return plain.numpy(), "float16"
    raise FormatError(f"a packed weight must be float32, float16 or bfloat16, got {plain.dtype}; convert it first")


def arrays_of(packed: Packed) -> dict[str, torch.Tensor]:
    """Return the arrays of a packed weight as tensors that share their memory, with values widened to float32."""
    arrays = packed.arrays()
    for name in ("values", "residual_values"):
        if name in arrays:
            arrays[name] = _widened(arrays[name], packed.dtype)
    return {name: torch.from_numpy(_signed(array)) for name, array in arrays.items()}


def packed_of(tensors: dict[str, torch.Tensor | None], pattern: str, outputs: int, inputs: int, tile: int) -> Packed:
    """Return the packed weight of tensors made by `arrays_of`, sharing their memory.

    Raises
    ------
    FormatError
        If the tensors contradict each other. Everything is checked here, so that kernels can trust the arrays.
    """
    missing = [name for name in ("values", "columns", "pointers") if tensors.get(name) is None]
    if missing:
        raise FormatError(f"a packed weight needs {missing[0]}, which is missing")
    arrays = {name: _array(name, t) for name, t in tensors.items() if t is not None}
    absent = [f"residual_{name}" for name in ("columns", "pointers") if f"residual_{name}" not in arrays]
    if "residual_values" in arrays and absent:
        raise FormatError(f"a packed weight with residual_values needs {absent[0]}, which is missing")
    residual = None
    if "residual_values" in arrays:
        residual = Residual(arrays["residual_pointers"], arrays["residual_columns"], arrays["residual_values"])
    return Packed(
        pattern=parse(pattern),
        shape=(outputs, inputs),
        dtype="float32",
        tile=tile,
        values=arrays["values"],
        columns=arrays["columns"],
        pointers=arrays["pointers"],
        rows=arrays.get("rows"),
        positions=arrays.get("positions"),
        residual=residual,
    )


_TYPES: dict[str, tuple[torch.dtype, ...]] = {
    "values": (torch.float32,),
    "columns": (torch.int16, torch.int32),
    "pointers": (torch.int64,),
    "rows": (torch.int32,),
    "positions": (torch.uint8,),
    "residual_values": (torch.float32,),
    "residual_columns": (torch.int16, torch.int32),
    "residual_pointers": (torch.int64,),
}


def _array(name: str, tensor: torch.Tensor) -> NDArray[Any]:
    if tensor.device.type != "cpu" or tensor.layout != torch.strided or tensor.dtype not in _TYPES[name]:
        wanted = " or ".join(str(kind) for kind in _TYPES[name])
        raise FormatError(f"{name} must be a {wanted} tensor on the CPU, got {tensor.dtype} on {tensor.device.type}")
    array: NDArray[Any] = tensor.detach().numpy()
    return _unsigned(array) if name.endswith("columns") else array


def _signed(array: NDArray[Any]) -> NDArray[Any]:
    writable = array if array.flags.writeable else array.copy()  # torch cannot share read-only memory
    return writable.view(_SIGNED[array.dtype]) if array.dtype in _SIGNED else writable


def _unsigned(array: NDArray[Any]) -> NDArray[Any]:
    return array.view({np.dtype(np.int16): np.uint16, np.dtype(np.int32): np.uint32}[array.dtype])


def _widened(values: NDArray[Any], dtype: ValueType) -> NDArray[np.float32]:
    if dtype == "bfloat16":
        return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return values.astype(np.float32, copy=False)
