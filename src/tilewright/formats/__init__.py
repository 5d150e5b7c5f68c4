"""Packed weights: in memory as plain arrays, on disk as a Hugging Face directory of safetensors. NumPy only.

`pack` and `Packed.unpack` are exact inverses on masked weights, as are `write_checkpoint` and `read_checkpoint` on whole
models.
"""

from .checkpoint import Checkpoint, is_checkpoint, read_checkpoint, read_checkpoint_bytes
from .configuration import check_config
from .container import RawTensor
from .interchange import export_dense, export_sparse24, import_sparse24
from .metadata24 import (
    METADATA_KINDS,
    Compressed24,
    MetadataKind,
    compress24,
    decode_metadata,
    deinterleave_metadata,
    encode_metadata,
    interleave_metadata,
    reorder_metadata,
    restore_metadata,
)
from .packed import Packed, Residual, ValueType, index_dtype, storage_dtype
from .packing import pack
from .sizing import disk_bytes
from .unpacking import unpack
from .weight import StoredWeight
from .writing import check_replaceable, write_checkpoint

__all__ = [
    "METADATA_KINDS",
    "Checkpoint",
    "Compressed24",
    "MetadataKind",
    "Packed",
    "RawTensor",
    "Residual",
    "StoredWeight",
    "ValueType",
    "check_config",
    "check_replaceable",
    "compress24",
    "decode_metadata",
    "deinterleave_metadata",
    "disk_bytes",
    "encode_metadata",
    "export_dense",
    "export_sparse24",
    "import_sparse24",
    "index_dtype",
    "interleave_metadata",
    "is_checkpoint",
    "pack",
    "read_checkpoint",
    "read_checkpoint_bytes",
    "reorder_metadata",
    "restore_metadata",
    "storage_dtype",
    "unpack",
    "write_checkpoint",
]
