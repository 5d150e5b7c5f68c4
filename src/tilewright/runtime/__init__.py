"""Running sparse models: layers that keep their weights packed, `save` and `load`, and the reasons for what runs how.

`SparseLinear` is the layer; `load` gives the user's own model class with such layers inside, `load_` does it to a module you
built; `explain` says what runs sparse and why, `verify` whether every pattern holds.
"""

from .again import measure_again
from .choice import Choice, choose, kernel_in_use
from .costs import measured_costs
from .exporting import export_dense
from .inspect import explain, verify
from .install import densified, sparse_layers
from .loading import load, load_
from .modules import SparseLinear
from .saving import save
from .sentences import open_sentence_transformer

__all__ = [
    "Choice",
    "SparseLinear",
    "choose",
    "densified",
    "explain",
    "export_dense",
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
