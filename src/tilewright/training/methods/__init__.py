"""Methods of pruning during training: each is a frozen value that says when masks change; `Sparsifier` applies it."""

from .apriori import Apriori
from .base import Method, at_sparsity
from .fixed import FixedMask
from .gradual import Gradual
from .multistage import MultiStage
from .srste import SRSTE

__all__ = ["SRSTE", "Apriori", "FixedMask", "Gradual", "Method", "MultiStage", "at_sparsity"]
