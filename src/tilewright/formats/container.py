"""The safetensors container: header and payload, fully checked when read and written deterministically.

There are three reasons not to use the library's reader: errors here name the file and the tensor, types that NumPy lacks
(bfloat16, float8) work without torch, and nothing is copied: the tensors are views of the bytes passed in.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError
from .bits import DAMAGED
from .text import LONGEST_TEXT, parse_object, show

__all__ = ["DTYPE_BITS", "WRITTEN_HERE", "RawTensor", "metadata_of", "parse_container", "raw_tensor", "serialize"]

WRITTEN_HERE = {"format": "pt", "writer": "tilewright"}
"""Metadata of the files written here: the key that other readers look for, and the writer."""

DTYPE_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
"""Bits per element of all supported types."""

_NUMPY = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
    "C64": "<c8",
}
_NAMES = {np.dtype(code): name for name, code in _NUMPY.items()}

_MOST_AXES = 16


@dataclass(frozen=True, eq=False)
class RawTensor:
    """A tensor as bytes, of any type a file may hold, including those that NumPy lacks.

    Parameters
    ----------
    dtype
        Type in safetensors notation, such as ``"F32"``, ``"BF16"``, ``"F8_E4M3"`` or ``"BOOL"``.
    shape
        Sizes of the axes; ``()`` for a scalar.
    data
        The bytes ``uint8[B]``, little-endian and row-major.
    """

    dtype: str
    shape: tuple[int, ...]
    data: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if self.dtype not in DTYPE_BITS:
            raise FormatError(f"unknown tensor type {show(self.dtype)}; expected one of {', '.join(DTYPE_BITS)}")
        bits = math.prod(self.shape) * DTYPE_BITS[self.dtype]
        if bits % 8 or len(self.data) * 8 != bits:
            raise FormatError(
                f"a {self.dtype} tensor of shape {show(list(self.shape))} takes {bits} bits, but got {len(self.data)} "
                "bytes; pass exactly its elements, little-endian and row-major"
            )

    def array(self) -> NDArray[Any]:
        """Return the tensor as an array; bfloat16 as uint16 holding its bits.

        The array is a view if the bytes are aligned for their type, otherwise a copy.

        Raises
        ------
        FormatError
            If NumPy has no such type (float8 and smaller); use `data` instead.
        """
        code = "<u2" if self.dtype == "BF16" else _NUMPY.get(self.dtype)
        if code is None:
            raise FormatError(f"NumPy has no type for {self.dtype}; use the bytes in .data")
        if self.dtype == "BOOL" and len(self.data) and int(self.data.max()) > 1:
            raise FormatError(
                f"a BOOL tensor contains the byte {int(self.data.max())}; only 0 and 1 are valid; {DAMAGED}"
            )
        aligned = self.data.ctypes.data % np.dtype(code).itemsize == 0
        return (self.data if aligned else self.data.copy()).view(code).reshape(self.shape)


def raw_tensor(value: object, name: str) -> RawTensor:
    """Return an array, or a triple (type, shape, bytes), as a `RawTensor`.

    Raises
    ------
    FormatError
        If the type is unknown or the bytes do not fill the shape; the message starts with the tensor's name.
    """
    try:
        if isinstance(value, RawTensor):
            return value
        if isinstance(value, np.ndarray | np.generic):
            dtype = _NAMES.get(value.dtype.newbyteorder("<"))
            if dtype is None:
                raise FormatError(f"a file cannot hold NumPy's {value.dtype}; convert it, or pass (type, shape, bytes)")
            plain = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<"))
            return RawTensor(dtype, value.shape, plain.reshape(-1).view(np.uint8))
        if isinstance(value, tuple) and len(value) == 3:
            dtype, shape, data = value
            return RawTensor(dtype, tuple(shape), np.frombuffer(data, dtype=np.uint8))
    except FormatError as error:
        raise FormatError(f"tensor {show(name)}: {error}") from None
    raise FormatError(f"tensor {show(name)}: got a {type(value).__name__}; pass an array or (type, shape, bytes)")


def serialize(tensors: Mapping[str, RawTensor]) -> Iterator[memoryview]:
    """Yield the bytes of a file: the header, then each tensor.

    Tensors are ordered by decreasing element size, then by name, so that each starts at a multiple of its element size.
    """
    order = sorted(tensors, key=lambda name: (-DTYPE_BITS[tensors[name].dtype], name))
    header: dict[str, Any] = {"__metadata__": WRITTEN_HERE}
    start = 0
    for name in order:
        tensor = tensors[name]
        end = start + len(tensor.data)
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield memoryview(len(text).to_bytes(8, "little") + text)
    for name in order:
        yield tensors[name].data.data


def parse_container(data: NDArray[np.uint8], where: str) -> dict[str, RawTensor]:
    """Return the tensors of a safetensors file given as ``uint8[B]``, as views of it.

    Raises
    ------
    FormatError
        If the header is too long or not JSON, or the tensors do not cover the payload exactly.
    """
    header, payload = _parts(data, where)
    _check_metadata(header.pop("__metadata__", {}), where)
    places = {name: _place(name, entry, where) for name, entry in header.items()}
    end = 0
    for name, (_, _, first, last) in sorted(places.items(), key=lambda item: item[1][2:]):
        if first != end:
            what = "overlaps the previous one" if first < end else "leaves a gap before it"
            raise FormatError(
                f"{where}: tensor {show(name)} starts at byte {first} of the payload and {what} (at {end}); {DAMAGED}"
            )
        end = last
    if end != len(payload):
        raise FormatError(f"{where}: the tensors take {end} bytes of payload, but there are {len(payload)}; {DAMAGED}")
    return {name: RawTensor(dtype, shape, payload[a:b]) for name, (dtype, shape, a, b) in places.items()}


def metadata_of(data: NDArray[np.uint8], where: str) -> dict[str, str]:
    """Return the metadata of a safetensors file; raises `FormatError` if it has no valid header."""
    metadata: dict[str, str] = _parts(data, where)[0].get("__metadata__", {})
    _check_metadata(metadata, where)
    return metadata


def _parts(data: NDArray[np.uint8], where: str) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """Return the header and the payload."""
    if len(data) < 8:
        raise FormatError(f"{where}: {len(data)} bytes; a safetensors file has at least 8; {DAMAGED}")
    length = int.from_bytes(data[:8].tobytes(), "little")
    if length > len(data) - 8 or length > LONGEST_TEXT:
        raise FormatError(
            f"{where}: the header claims {length} bytes; {len(data) - 8} follow, and at most {LONGEST_TEXT} are read; {DAMAGED}"
        )
    return parse_object(data[8 : 8 + length].tobytes(), f"{where}, header"), data[8 + length :]


def _check_metadata(metadata: object, where: str) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FormatError(f"{where}: __metadata__ must map strings to strings, got {show(metadata)}; {DAMAGED}")


def _place(name: str, entry: object, where: str) -> tuple[str, tuple[int, ...], int, int]:
    """Return type, shape, begin and end of one header entry, checked for consistency."""
    at = f"{where}: tensor {show(name)}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"{at} must have exactly dtype, shape and data_offsets, got {show(entry)}; {DAMAGED}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise FormatError(f"{at} has the unknown type {show(dtype)}; expected one of {', '.join(DTYPE_BITS)}")
    if not _naturals(shape) or len(shape) > _MOST_AXES:
        raise FormatError(
            f"{at} has shape {show(shape)}; it must list at most {_MOST_AXES} non-negative integers; {DAMAGED}"
        )
    if not _naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise FormatError(
            f"{at} has data_offsets {show(offsets)}; they must be two non-negative integers, begin <= end; {DAMAGED}"
        )
    bits = math.prod(shape) * DTYPE_BITS[dtype]
    if bits != (offsets[1] - offsets[0]) * 8:
        raise FormatError(
            f"{at}: {show(shape)} elements of {dtype} take {bits} bits, but its data_offsets span "
            f"{offsets[1] - offsets[0]} bytes; {DAMAGED}"
        )
    return dtype, tuple(shape), offsets[0], offsets[1]


def _naturals(values: object) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 62 for value in values)
