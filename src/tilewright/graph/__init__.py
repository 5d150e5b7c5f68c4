"""Running models: how a model is called on a batch, and in which mode."""

from .calling import call
from .modes import evaluating, keeping_modes, without_fused_attention

__all__ = ["call", "evaluating", "keeping_modes", "without_fused_attention"]
