"""Pruning of PyTorch models: which weights, by which score, under which budget, and masks that hold during training.

Start with `sparsify_`. `prunable` lists the weights it can prune, and `masks_of` and `patterns_of` show the result; `apply_masks_`,
`remove_masks_` and `load_masked_` manage the masks afterwards. Rooms that prune while a model trains call the steps of
`sparsify_` separately, as `choose`, `solve` and `set_mask_`; `whole`, `local` and `own_part` handle sharded weights.
"""

from .assignment import Assignment, Targets, choose, refuse
from .averages import copy_masks_, teach_averages
from .blocks.chain import next_batch, sparsify_blocks
from .inputs.padding import Padding, PaddingReader
from .masks import apply_masks_, load_masked_, masks_of, patterns_of, remove_masks_, set_mask_, zero_
from .permute.model import permute_
from .permute.permutation import efficacy, kept_score, permute_columns, permute_rows
from .plans.plan import Candidate, Plan, candidates, plan
from .plans.planned import Limit
from .plans.result import Scan, ScanPoint
from .plans.scan import sensitivity_scan
from .scores import SCORES, Calibration, Scorer
from .solve import solve
from .sparsify import sparsify_
from .targets import matches, means
from .tensors import gathered, is_quantized, is_spread, local, own_part, plain, spread_like, whole
from .update.obs import Obs
from .weights import Weight, prunable
from .wrappers import bare

__all__ = [
    "SCORES",
    "Assignment",
    "Calibration",
    "Candidate",
    "Limit",
    "Obs",
    "Padding",
    "PaddingReader",
    "Plan",
    "Scan",
    "ScanPoint",
    "Scorer",
    "Targets",
    "Weight",
    "apply_masks_",
    "bare",
    "candidates",
    "choose",
    "copy_masks_",
    "efficacy",
    "gathered",
    "is_quantized",
    "is_spread",
    "kept_score",
    "load_masked_",
    "local",
    "masks_of",
    "matches",
    "means",
    "next_batch",
    "own_part",
    "patterns_of",
    "permute_",
    "permute_columns",
    "permute_rows",
    "plain",
    "plan",
    "prunable",
    "refuse",
    "remove_masks_",
    "sensitivity_scan",
    "set_mask_",
    "solve",
    "sparsify_",
    "sparsify_blocks",
    "spread_like",
    "teach_averages",
    "whole",
    "zero_",
]
