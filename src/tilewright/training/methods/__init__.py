"""Pruning during training: each method is a frozen value that says when masks change; `Sparsifier` carries it out."""

from .apriori import Apriori
from .base import Method, at_sparsity
from .fixed import FixedMask
from .gradual import Gradual
from .multistage import MultiStage
from .srste import SRSTE

__all__ = ["SRSTE", "Apriori", "FixedMask", "Gradual", "Method", "MultiStage", "at_sparsity"]
