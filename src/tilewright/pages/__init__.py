"""Pages: the report of a job, the page of a simulation, and the figures of studies."""

from .about import About
from .checks import Check
from .exploration import pareto_figure
from .figures import Series, bar_figure, line_figure, save_figure, scatter_figure
from .html import render_report, write_report
from .sensitivity import sensitivity_figure
from .simulated import simulation_page

__all__ = [
    "About",
    "Check",
    "Series",
    "bar_figure",
    "line_figure",
    "pareto_figure",
    "render_report",
    "save_figure",
    "scatter_figure",
    "sensitivity_figure",
    "simulation_page",
    "write_report",
]
