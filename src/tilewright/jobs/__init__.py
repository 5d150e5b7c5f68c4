"""Whole jobs: what the command line calls, and what a script may call as well.

`run` does everything a recipe says; `prune` and `bench` do one part; `forecast` and its kin tell what that will take.
"""

from .bench import bench, forecast_bench
from .corpus import Corpus, python_docs
from .forecast import forecast, forecast_prune
from .models import model_folder
from .pruning import prune
from .recipe import Recipe, load_recipe
from .running import JobResult, run
from .schema import recipe_schema

__all__ = [
    "Corpus",
    "JobResult",
    "Recipe",
    "bench",
    "forecast",
    "forecast_bench",
    "forecast_prune",
    "load_recipe",
    "model_folder",
    "prune",
    "python_docs",
    "recipe_schema",
    "run",
]
