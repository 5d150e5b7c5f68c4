"""Training of sparse models: one loop, methods that prune on the way, and recovery against the dense model.

`train_` trains with any loss, such as a `Distillation`; `recover_` trains a pruned model against its dense teacher. Both resume
from a checkpoint to the same bits as an uninterrupted run. `TrainOptions` and `RecoverOptions` configure them, `Batches` supplies
batches by index, and `Checkpoint` says where and how often to save. Methods (`FixedMask`, `Gradual`, `MultiStage`, `SRSTE`) are
frozen values; `Sparsifier` applies one in your own training loop. `distill_progressively_` replaces a teacher's blocks with the
student's during training; `inherit_` trains a whole `Family` of n:m models. `lora_` and `merge_lora_` train and merge low-rank
adapters that keep the pattern. `check_masks`, `check_patterns` and `keeping_patterns` verify the result. `adapters` holds callbacks
for other trainers.
"""

from ..pruning import copy_masks_
from .average import MaskedAverage
from .batches import Batches, Share
from .checkpoint import Checkpoint
from .distil.distillation import Distillation
from .distil.losses import mean_pooled
from .distil.progressive import distill_progressively_
from .distil.recover import Recovery, recover_
from .family.inherit import inherit_
from .family.members import Family, Member
from .guards import check_masks, check_patterns, keeping_patterns
from .loop import StepCallback, Training
from .lora import lora_, merge_into_mask_, merge_lora_
from .methods import SRSTE, Apriori, FixedMask, Gradual, Method, MultiStage, at_sparsity
from .options import ProgressiveOptions, RecoverOptions, TrainOptions
from .sparsifier import Sparsifier
from .train import train_

__all__ = [
    "SRSTE",
    "Apriori",
    "Batches",
    "Checkpoint",
    "Distillation",
    "Family",
    "FixedMask",
    "Gradual",
    "MaskedAverage",
    "Member",
    "Method",
    "MultiStage",
    "ProgressiveOptions",
    "RecoverOptions",
    "Recovery",
    "Share",
    "Sparsifier",
    "StepCallback",
    "TrainOptions",
    "Training",
    "at_sparsity",
    "check_masks",
    "check_patterns",
    "copy_masks_",
    "distill_progressively_",
    "inherit_",
    "keeping_patterns",
    "lora_",
    "mean_pooled",
    "merge_into_mask_",
    "merge_lora_",
    "recover_",
    "train_",
]
