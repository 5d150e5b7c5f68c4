"""Design-space exploration: simulate many combinations of machine, pattern and network, and find the best of them.

`grid` lists designs, `explore` runs them (here or on a Ray cluster) and keeps every result in a file, `pareto` picks the
designs that no other dominates, `qualities` reads from records what patterns cost in accuracy, and `area` estimates
silicon area.
"""

from .area import AREAS, area
from .design import Design, grid
from .front import pareto
from .quality import qualities
from .sweep import explore

__all__ = ["AREAS", "Design", "area", "explore", "grid", "pareto", "qualities"]
