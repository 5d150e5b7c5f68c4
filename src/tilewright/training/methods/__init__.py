"""Pruning during training: each method is a frozen value that says when masks change; `Sparsifier` carries it out."""

from .base import Method, at_sparsity
from .fixed import FixedMask
from .gradual import Gradual
from .srste import SRSTE

__all__ = ["SRSTE", "FixedMask", "Gradual", "Method", "at_sparsity"]
