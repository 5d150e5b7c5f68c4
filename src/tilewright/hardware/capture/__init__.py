"""From a torch model, or a checkpoint, to a `Workload`: every step with its shape, its weight as it is pruned, and what it waits for."""

from .door import capture, capture_checkpoint

__all__ = ["capture", "capture_checkpoint"]
