"""`measure_again`: repeat every measurement remembered for this machine."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ...errors import TilewrightError
from ...formats import pack
from ...patterns import mask, parse
from ...records import Report
from ..layer import SparseLinear
from .choice import environment, kernel_in_use, measured
from .memory import Memory

__all__ = ["measure_again"]


def measure_again() -> Report:
    """Measure again every layer whose choice between sparse and dense is remembered for this machine, kernel and thread count.

    Layers are rebuilt with random weights of the same shape and pattern, since values do not affect speed. New results
    replace the remembered ones unless the machine is busy.

    Returns
    -------
    Report
        One row per layer and number of tokens, with the remembered and the new ratio of dense time to sparse time. ``ok``
        is False if the machine was too busy to keep a result.

    Examples
    --------
    >>> import os, tempfile
    >>> from unittest import mock
    >>> with tempfile.TemporaryDirectory() as empty, mock.patch.dict(os.environ, TILEWRIGHT_CACHE=empty):
    ...     measure_again().rows  # nothing remembered yet
    ()
    """
    memory = Memory()
    rows, busy = [], 0
    for key, choice in memory.items().items():
        if choice.layer is None or not key.startswith(environment()):
            continue
        layer, counts = _layer(choice.layer), tuple(choice.ratios)
        if layer is None:
            continue
        result = measured(layer, counts)
        memory.put(key, result)
        busy += not result.kept
        rows += [
            {
                "layer": "x".join(map(str, layer.shape)),
                "pattern": layer.pattern,
                "tokens": count,
                "remembered": choice.ratios[count],
                "measured": result.ratios[count],
                "runs": "sparse" if result.sparse else "dense",
                "kept": result.kept,
            }
            for count in counts
        ]
    summary = {
        "layers": len({(row["layer"], row["pattern"]) for row in rows}),
        "kernel": kernel_in_use(),
        "threads": torch.get_num_threads(),
        "not kept, the machine was busy": busy,
    }
    return Report("measure", tuple(rows), summary, ok=busy == 0)


def _layer(what: Mapping[str, Any]) -> SparseLinear | None:
    """Return a layer that fits a description; None if the description is invalid."""
    try:
        outputs, inputs = what["shape"]
        pattern = parse(str(what["pattern"]))
        weight = np.random.default_rng(0).standard_normal((outputs, inputs)).astype(np.float32)
        target = pattern if pattern.fixed else replace(pattern, sparsity=1 - float(what["density"]))  # type: ignore[call-arg]  # those that are not fixed have one
        keep = mask(target, np.abs(weight))
        packed = pack(np.where(keep, weight, np.float32(0)), pattern, keep)
        bias = torch.zeros(outputs) if what["bias"] else None
        layout = {"linear": "linear", "transposed": "transposed"}[what["layout"]]
        layer = SparseLinear(packed, bias, str(what["activation"]), layout)  # type: ignore[arg-type]  # one of the two
        layer.surrounding = getattr(torch, str(what["dtype"]))
    except (TilewrightError, KeyError, TypeError, ValueError, AttributeError, MemoryError):
        return None
    return layer
