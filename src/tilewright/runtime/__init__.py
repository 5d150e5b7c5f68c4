"""Running sparse models: layers that keep their weights packed, `save` and `load`, and reports on what runs sparse and why.

`SparseLinear` is the layer. `load` returns the original model class with such layers inside, `load_` does the same to a
module you have built. `explain` reports what runs sparse and why, `verify` whether all patterns hold.
"""

from .checkpoint.exporting import export_dense
from .checkpoint.loading import load, load_
from .checkpoint.saving import save
from .checkpoint.sentences import open_sentence_transformer
from .explaining import explain
from .install import densified, sparse_layers
from .layer import SparseLinear
from .measured.again import measure_again
from .measured.choice import Choice, choose, kernel_in_use
from .measured.costs import measured_costs
from .measured.timing import Timing, in_turns
from .verifying import verify

__all__ = [
    "Choice",
    "SparseLinear",
    "Timing",
    "choose",
    "densified",
    "explain",
    "export_dense",
    "in_turns",
    "kernel_in_use",
    "load",
    "load_",
    "measure_again",
    "measured_costs",
    "open_sentence_transformer",
    "save",
    "sparse_layers",
    "verify",
]
