"""From a torch model or a checkpoint to a `Workload`: every step with its shape, its pruned weight and its dependencies."""

from .door import call_of, capture, capture_checkpoint, model_class
from .weights import Views

__all__ = ["Views", "call_of", "capture", "capture_checkpoint", "model_class"]
