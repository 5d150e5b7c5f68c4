"""`ValidationCurve`: the measure on validation pairs along a recovery, kept beside its checkpoint."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from ..graph import keeping_modes
from ..records import write_whole

__all__ = ["ValidationCurve"]


class ValidationCurve:
    """Rates a model at evenly spaced steps, the last one among them, and remembers what it found.

    A recovery is the same to the bit however often it is interrupted, so a step that an earlier run rated is not rated again.

    Parameters
    ----------
    model
        What is trained; its modules' modes are as before after each rating.
    evaluate
        Returns the measure of the model as it is now.
    place
        Where the values are kept.
    key
        Of the recipe; values kept under another key are dropped.
    steps, points
        Steps of the recovery, and how many of them are rated.
    """

    def __init__(
        self, model: nn.Module, evaluate: Callable[[], float], place: Path, key: str, steps: int, points: int
    ) -> None:
        self._model, self._evaluate, self._place, self._key = model, evaluate, place, key
        self._marks = {round(steps * (i + 1) / points) for i in range(points)}
        self._values = _kept(place, key)

    def at(self, step: int) -> float | None:
        """Rate the model after a step where one is due, and return the value; step 0 is before the first."""
        if step and step not in self._marks:
            return None
        if step not in self._values:
            with keeping_modes(self._model):
                self._values[step] = self._evaluate()
            kept = {"key": self._key, "values": sorted(self._values.items())}
            write_whole(self._place, json.dumps(kept))
        return self._values[step]

    @property
    def points(self) -> tuple[tuple[int, float], ...]:
        """All (step, value) so far, by step."""
        return tuple(sorted(self._values.items()))


def _kept(place: Path, key: str) -> dict[int, float]:
    try:
        body: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
        return {int(step): float(value) for step, value in body["values"]} if body["key"] == key else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}
