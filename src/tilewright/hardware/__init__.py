"""Models of accelerators: one specification for sparse tensor cores, STA and S4, run on the weights of pruned networks."""

from .compare import Comparison, compare
from .engines import ENGINES
from .explore import Design, explore, grid, pareto, qualities
from .machine.presets import PRESETS, preset
from .machine.spec import AcceleratorSpec, DataType, Engine, Memory
from .networks import NETWORKS, workload
from .quantity import Provenance, Quantity, assumed, derived, sourced
from .result import CAUSES, Fidelity, OperationResult
from .simulate import simulate
from .simulation import Simulation
from .workload import Operation, WeightView, Workload

__all__ = [
    "CAUSES",
    "ENGINES",
    "NETWORKS",
    "PRESETS",
    "AcceleratorSpec",
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
    "assumed",
    "compare",
    "derived",
    "explore",
    "grid",
    "pareto",
    "preset",
    "qualities",
    "simulate",
    "sourced",
    "workload",
]
