"""`ValidationCurve`: the measure on the validation split during a recovery, stored next to the checkpoint."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from ..graph import keeping_modes
from ..records import write_whole

__all__ = ["ValidationCurve"]


class ValidationCurve:
    """Evaluate a model at evenly spaced steps, including the last, and store the values.

    A resumed recovery is bit-identical to an uninterrupted one, so steps that an earlier run evaluated are not evaluated again.

    Parameters
    ----------
    model
        The model being trained. The train or eval mode of its modules is restored after each evaluation.
    evaluate
        Function that returns the measure of the model in its current state.
    place
        File that stores the values.
    key
        Identity of the recipe. Values stored under another key are discarded.
    steps
        Number of steps of the recovery.
    points
        Number of steps to evaluate at.
    """

    def __init__(
        self, model: nn.Module, evaluate: Callable[[], float], place: Path, key: str, steps: int, points: int
    ) -> None:
        self._model, self._evaluate, self._place, self._key = model, evaluate, place, key
        self._marks = {round(steps * (i + 1) / points) for i in range(points)}
        self._values = _kept(place, key)

    def at(self, step: int) -> float | None:
        """Evaluate the model if an evaluation is due after this step, and return the value; step 0 is before the first step."""
        if step and step not in self._marks:
            return None
        if step not in self._values:
            with keeping_modes(self._model):
                self._values[step] = self._evaluate()
            body = {"key": self._key, "values": sorted(self._values.items())}
            write_whole(self._place, json.dumps(body))
        return self._values[step]

    @property
    def points(self) -> tuple[tuple[int, float], ...]:
        """All (step, value) pairs so far, in order of steps."""
        return tuple(sorted(self._values.items()))


def _kept(place: Path, key: str) -> dict[int, float]:
    try:
        body: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
        return {int(step): float(value) for step, value in body["values"]} if body["key"] == key else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}
