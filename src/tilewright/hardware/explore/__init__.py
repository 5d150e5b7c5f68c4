"""Design-space exploration: many machines by many patterns and networks, what each takes, and which are worth a look.

`grid` lists designs, `explore` runs them (here, or on a Ray cluster) and keeps every result in a file, `pareto` picks those that no other
beats in everything, `qualities` brings what patterns cost in accuracy from records, `area` estimates silicon.
"""

from .area import AREAS, area
from .design import Design, grid
from .front import pareto
from .quality import qualities
from .sweep import explore

__all__ = ["AREAS", "Design", "area", "explore", "grid", "pareto", "qualities"]
