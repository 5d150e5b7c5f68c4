"""Products of activations with packed weights, and the operations between them, on the CPU: fast C++ bodies, defined in NumPy.

Call `linear` to compute one. `OPERATIONS` lists the operations, `implementations` what this machine can run, and
`last_implementation` what ran last. Requires NumPy and the compiled extension, but no framework.
"""

from .arrays import KernelArrays
from .cpu.linear import linear, linear_arrays, linear_panels, pack_panels, unpack_panels
from .cpu.network import attention_panels, embed_panels, norm_panels, pool_panels
from .dispatch import Implementation, fma_peak, implementations, last_implementation
from .table import ACTIVATIONS, MOST_THREADS, OPERATIONS, Activation, Operation, Tolerance, operation_of

__all__ = [
    "ACTIVATIONS",
    "MOST_THREADS",
    "OPERATIONS",
    "Activation",
    "Implementation",
    "KernelArrays",
    "Operation",
    "Tolerance",
    "attention_panels",
    "embed_panels",
    "fma_peak",
    "implementations",
    "last_implementation",
    "linear",
    "linear_arrays",
    "linear_panels",
    "norm_panels",
    "operation_of",
    "pack_panels",
    "pool_panels",
    "unpack_panels",
]
