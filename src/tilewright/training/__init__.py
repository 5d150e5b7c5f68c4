"""Recovery of pruned models: fixed-mask training against the dense model, resumable at any step.

`recover_` is the verb, `RecoverOptions` its one set of choices, `Batches` a source of batches that can start anywhere, `Checkpoint` says where
and how often to save.
"""

from .batches import Batches
from .checkpoint import Checkpoint
from .losses import mean_pooled
from .options import RecoverOptions
from .recover import Progress, Recovery, recover_

__all__ = ["Batches", "Checkpoint", "Progress", "RecoverOptions", "Recovery", "mean_pooled", "recover_"]
