"""Evaluate a finished job: its requirements, records of its layers, and masks for the report."""

import re
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from ..formats import StoredWeight, read_checkpoint
from ..pages import Check
from ..records import Record
from ..runtime import explain
from .models import inner_model
from .recipe.recipe import Recipe
from .sizes import weights_ratio
from .speed.benching import ratios

__all__ = ["checks_of", "layer_records", "masks_to_show"]

_TITLES = {"mrr": "MRR"}


def checks_of(recipe: Recipe, records: Sequence[Record], shares: Sequence[float], measure: str) -> tuple[Check, ...]:
    """Compare every requirement of a recipe with the measured value.

    Parameters
    ----------
    recipe
        The recipe, with its requirements.
    records
        All records of the job.
    shares
        Share of the dense model's quality, for each seed.
    measure
        Name of the task's main measure.
    """
    require, speed = recipe.require, ratios(list(records))
    most = max(recipe.bench.sentences)
    checks = []

    def at_least(name: str, value: float | None, limit: float | None) -> None:
        if limit is not None:
            shown = "no layer runs sparse here" if value is None else round(value, 3)
            checks.append(Check(name, shown, f"at least {limit:g}", value is not None and value >= limit))

    at_least(f"{_TITLES.get(measure, measure)}, share of dense (median over seeds)", median(shares), require.quality)
    at_least(
        f"linear layers, times the best dense engine at {most} sentences",
        speed.get(("linear", most)),  # absent where every layer measured faster dense
        require.linear_ratio,
    )
    at_least(
        f"whole model, times the best dense engine at {most} sentences", speed["encode", most], require.encode_ratio
    )
    if require.weights_size is not None:
        size = weights_ratio(list(records))
        checks.append(
            Check(
                "pruned weights on disk, share of dense",
                round(size, 3),
                f"at most {require.weights_size:g}",
                size <= require.weights_size,
            )
        )
    return tuple(checks)


def layer_records(model: Any) -> list[Record]:
    """Return one record per layer: how it runs on this machine, and why."""
    records = []
    for row in explain(inner_model(model)).rows:
        inputs = {"pattern": row["pattern"], "shape": row["shape"]}
        extra = {key: row[key] for key in ("density", "kernel", "reason")}
        if row["ratio"] is not None:
            extra["ratio"] = row["ratio"]
        density = row["density"]
        assert isinstance(density, float)
        layer = str(row["layer"])
        records.append(Record.measure("layer", layer, density, "1", inputs=inputs, checked=True, extra=extra))
    return records


def masks_to_show(folder: Path) -> dict[str, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Return the mask of the first packed weight of each kind; names that differ only in numbers are of one kind."""
    first: dict[str, tuple[str, StoredWeight]] = {}
    for name, weight in read_checkpoint(folder).weights.items():
        first.setdefault(re.sub(r"\d+", "*", name), (name, weight))
    return {name.removesuffix(".weight"): weight.packed.mask() for name, weight in first.values()}
