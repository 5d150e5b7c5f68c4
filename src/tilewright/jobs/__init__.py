"""Whole jobs, for the command line and for scripts.

`run` does everything in a recipe; `prune` and `bench` do one part each; `forecast`, `forecast_prune` and `forecast_bench` estimate
what those will take. Nothing heavy is imported until it is used, so a wrong recipe or option is refused in milliseconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .choices import require_choices

if TYPE_CHECKING:
    from .corpus import Corpus, python_docs
    from .exporting import export
    from .forecasting import forecast, forecast_prune
    from .installation import doctor
    from .models import inner_model, read_model
    from .pruning import prune
    from .recipe.recipe import Recipe, load_recipe, require_data
    from .recipe.schema import recipe_schema
    from .retrieval import embed, rate
    from .running import JobResult, run
    from .sources import model_folder, require_model
    from .speed.benching import bench, forecast_bench

__all__ = [
    "Corpus",
    "JobResult",
    "Recipe",
    "bench",
    "doctor",
    "embed",
    "export",
    "forecast",
    "forecast_bench",
    "forecast_prune",
    "inner_model",
    "load_recipe",
    "model_folder",
    "prune",
    "python_docs",
    "rate",
    "read_model",
    "recipe_schema",
    "require_choices",
    "require_data",
    "require_model",
    "run",
]

_HOMES = {
    "Corpus": "corpus",
    "JobResult": "running",
    "Recipe": "recipe.recipe",
    "bench": "speed.benching",
    "doctor": "installation",
    "embed": "retrieval",
    "export": "exporting",
    "forecast": "forecasting",
    "forecast_bench": "speed.benching",
    "forecast_prune": "forecasting",
    "inner_model": "models",
    "load_recipe": "recipe.recipe",
    "model_folder": "sources",
    "prune": "pruning",
    "python_docs": "corpus",
    "rate": "retrieval",
    "read_model": "models",
    "recipe_schema": "recipe.schema",
    "require_data": "recipe.recipe",
    "require_model": "sources",
    "run": "running",
}


def __getattr__(name: str) -> Any:
    """Import the module that defines a public name on first access."""
    if name not in _HOMES:
        raise AttributeError(f"tilewright.jobs has no public name {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value
