"""Pruning of PyTorch models: which weights, by which score, under which budget, and masks that hold during training.

`sparsify_` is the verb. `prunable` lists what it can prune; `masks_of` and `patterns_of` show what it did; `apply_masks_`,
`remove_masks_` and `load_masked_` look after the masks afterwards.
"""

from .masks import apply_masks_, load_masked_, masks_of, patterns_of, remove_masks_
from .scores import Calibration
from .sparsify import sparsify_
from .weights import Weight, prunable

__all__ = [
    "Calibration",
    "Weight",
    "apply_masks_",
    "load_masked_",
    "masks_of",
    "patterns_of",
    "prunable",
    "remove_masks_",
    "sparsify_",
]
