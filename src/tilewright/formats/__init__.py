"""Packed weights: compressed in memory as plain arrays, and on disk as a Hugging Face directory of safetensors.

`pack` and `Packed.unpack` are exact inverses on masked weights; `write_checkpoint` and `read_checkpoint` are on whole models.
NumPy only.
"""

from .checkpoint import Checkpoint, is_checkpoint, read_checkpoint, read_checkpoint_bytes
from .container import RawTensor
from .interchange import export_dense, export_sparse24, import_sparse24
from .packed import Packed, Residual, ValueType, index_dtype, storage_dtype
from .packing import pack, unpack
from .weight import StoredWeight
from .writing import write_checkpoint

__all__ = [
    "Checkpoint",
    "Packed",
    "RawTensor",
    "Residual",
    "StoredWeight",
    "ValueType",
    "export_dense",
    "export_sparse24",
    "import_sparse24",
    "index_dtype",
    "is_checkpoint",
    "pack",
    "read_checkpoint",
    "read_checkpoint_bytes",
    "storage_dtype",
    "unpack",
    "write_checkpoint",
]
