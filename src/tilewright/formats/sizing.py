"""`disk_bytes`: the size of a packed weight on disk."""

from .packed import Packed
from .weight import StoredWeight, encode_weight

__all__ = ["disk_bytes"]


def disk_bytes(packed: Packed) -> int:
    """Return the size in bytes of a weight's tensors in a checkpoint: values and index, without the file's header.

    Examples
    --------
    >>> import numpy as np
    >>> from tilewright import NM
    >>> from tilewright.formats import disk_bytes, pack
    >>> disk_bytes(pack(np.tile(np.float32([0, 1, 2, 0]), (16, 16)), NM(2, 4)))  # 512 values of 4 bytes, 96 bytes of index
    2144
    """
    return sum(len(tensor.data) for tensor in encode_weight("weight", StoredWeight(packed))[1].values())
