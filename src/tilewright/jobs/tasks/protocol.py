"""What a task is: `Task`, the `Measure` it judges by, and the `Scores` it returns. NumPy only."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import CheckFailed

__all__ = ["Loss", "Measure", "Scores", "Split", "Task"]

Split = Literal["validation", "test"]
"""``validation`` is for choices that a recipe makes; ``test`` is what a finished model is judged by, and nothing else looks at it."""

Loss = Literal["cosine", "cross-entropy", "mse"]

_RESAMPLES = 1000
"""Draws of a bootstrap: its ends move by a tenth of the interval from one seed to another."""


def _same(mean: float) -> float:
    return mean


@dataclass(frozen=True)
class Measure:
    """One number that says how good a model is.

    Parameters
    ----------
    name
        Short, as records and reports have it: ``"mrr"``, ``"accuracy"``, ``"perplexity"``.
    unit
        ``"1"`` for shares and ratios.
    higher_is_better
        The direction.
    meaning
        One plain sentence for a reader who has never met it.
    of_mean
        From the mean over items to the number: the identity by default, ``exp`` for a perplexity.
    """

    name: str
    unit: str
    higher_is_better: bool
    meaning: str
    of_mean: Callable[[float], float] = field(default=_same, repr=False, compare=False)

    def share(self, value: float, dense: float) -> float:
        """Return how much of the dense model's quality is left: 1 for as good, less for worse, whatever the direction.

        Examples
        --------
        >>> Measure("accuracy", "1", True, "...").share(0.81, dense=0.9)
        0.9
        >>> Measure("perplexity", "1", False, "...").share(20.0, dense=16.0)
        0.8
        """
        if value == dense:
            return 1.0
        above, below = (value, dense) if self.higher_is_better else (dense, value)
        return round(above / below, 12) if below else float("inf")


@dataclass(frozen=True, eq=False)
class Scores:
    """What a model reached, item by item, so that intervals can be drawn and two models compared on the same items.

    Parameters
    ----------
    items
        For each measure, by name, one number an item: ``[items]``.
    measures
        The measures, the one that the task judges by first.
    weights
        How much each item counts, such as its tokens; all alike by default.

    Raises
    ------
    CheckFailed
        If a number is NaN or infinite.

    Examples
    --------
    >>> right = Measure("accuracy", "1", True, "Share of the items that were labelled correctly.")
    >>> scores = Scores({"accuracy": np.array([1.0, 0.0, 1.0, 1.0])}, (right,))
    >>> scores["accuracy"], scores.interval("accuracy")
    (0.75, (0.25, 1.0))
    """

    items: Mapping[str, NDArray[np.float64]]
    measures: tuple[Measure, ...]
    weights: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        for name, values in self.items.items():
            if not np.isfinite(values).all():
                raise CheckFailed(
                    f"the model's {name} is NaN or infinite on {np.count_nonzero(~np.isfinite(values))} of {len(values)} items; look for "
                    "weights that overflowed, or a recovery that diverged"
                )

    def __getitem__(self, name: str) -> float:
        measure = self._measure(name)
        return float(measure.of_mean(float(np.average(self.items[name], weights=self.weights))))

    def __len__(self) -> int:
        return len(self.items[self.measures[0].name])

    def interval(self, name: str, *, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
        """Return the bootstrap interval of a measure over its items.

        Parameters
        ----------
        name
            Of the measure.
        level
            Share of the draws that lie inside.
        seed
            Of the draws: the same for all models, so that their intervals rest on the same draws.
        """
        measure, values = self._measure(name), self.items[name]
        weights = np.ones(len(values)) if self.weights is None else self.weights
        draws = np.random.default_rng(seed).integers(0, len(values), (_RESAMPLES, len(values)))
        means = (values * weights)[draws].sum(axis=1) / weights[draws].sum(axis=1)
        low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
        ends = sorted((measure.of_mean(float(low)), measure.of_mean(float(high))))
        return ends[0], ends[1]

    def _measure(self, name: str) -> Measure:
        return next(measure for measure in self.measures if measure.name == name)


class Task(Protocol):
    """What a model is judged by, and the data it may learn from on the way. One class a kind of task.

    ``model`` is always what `read_model` returned, or a copy: a SentenceTransformer, a model of transformers, or a plain module.
    """

    name: str
    """As recipes have it: ``retrieval``, ``classification``, ``regression``, ``next-token``, ``images``, ``match``."""

    description: str
    """One plain sentence: what is asked of the model, and of which data."""

    measures: tuple[Measure, ...]
    """Everything it measures; the first is the one it judges by."""

    unit: str
    """What its items are, in the plural: pairs, texts, images."""

    loss: Loss
    """How recovery compares outputs with the dense model's: ``cosine``, ``mse`` or ``cross-entropy``."""

    digest: str
    """SHA-256 over its data: two runs with the same digest saw the same."""

    def refer(self, dense: Any) -> None:
        """Look at the dense model once, before anything is changed: measures of likeness are held against it."""

    def evaluate(self, model: Any, split: Split = "test") -> Scores:
        """Return what a model reaches on held-out items.

        Raises
        ------
        CheckFailed
            If the model's outputs are NaN or infinite.
        """

    def batches(self, size: int, *, tokens: int, seed: int) -> Any:
        """Return endless shuffled batches of items that neither split holds, for recovery and calibration; see `training.Batches`.

        Parameters
        ----------
        size
            Items in a batch.
        tokens
            Longer texts are cut; other items stay as they are.
        seed
            Of the order.
        """

    def output(self, result: Any, batch: Any) -> Any:
        """Return the tensor that recovery compares with the dense model's, from what a model returned for a batch."""

    def example(self, count: int) -> dict[str, Any]:
        """Return the inputs of one call on so many items, tensors by name; a plain module's are in the order of its parameters."""
