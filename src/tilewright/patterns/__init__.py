"""Sparsity patterns as values, and masks from scores. NumPy only.

A pattern is a frozen value. `parse` reads its text, `mask` and `project` turn scores into masks, `verify_mask` checks a
mask against it, `statistics` measures how evenly a mask keeps, and `as_matrix` and `from_matrix` convert weights to and
from ``[N, K]``.
"""

from .groups import nm_mask
from .project import mask, project
from .statistics import MaskStatistics, statistics
from .text import parse
from .tilewise import split_elements, tile_columns
from .values import NM, Banked, Block, Pattern, TileElementWise, TileVectorWise, TileWise, Unstructured
from .verify import Verdict, verify_mask
from .views import Layout, as_matrix, from_matrix, matrix_shape

__all__ = [
    "NM",
    "Banked",
    "Block",
    "Layout",
    "MaskStatistics",
    "Pattern",
    "TileElementWise",
    "TileVectorWise",
    "TileWise",
    "Unstructured",
    "Verdict",
    "as_matrix",
    "from_matrix",
    "mask",
    "matrix_shape",
    "nm_mask",
    "parse",
    "project",
    "split_elements",
    "statistics",
    "tile_columns",
    "verify_mask",
]
