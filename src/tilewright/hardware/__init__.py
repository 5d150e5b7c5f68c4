"""Accelerators as models: one specification for sparse tensor cores, STA and S4, fed with the weights of real pruned networks."""

from .advise import Advice, advise
from .compare import Comparison, compare
from .explore import Design, explore, grid, pareto, qualities
from .networks import NETWORKS
from .quantity import Provenance, Quantity, assumed, derived, sourced
from .result import CAUSES, Fidelity, OperationResult, Simulation
from .simulate import simulate
from .spec import AcceleratorSpec, DataType, Engine, Memory
from .workload import Operation, WeightView, Workload

__all__ = [
    "CAUSES",
    "NETWORKS",
    "AcceleratorSpec",
    "Advice",
    "Comparison",
    "DataType",
    "Design",
    "Engine",
    "Fidelity",
    "Memory",
    "Operation",
    "OperationResult",
    "Provenance",
    "Quantity",
    "Simulation",
    "WeightView",
    "Workload",
    "advise",
    "assumed",
    "compare",
    "derived",
    "explore",
    "grid",
    "pareto",
    "qualities",
    "simulate",
    "sourced",
]
