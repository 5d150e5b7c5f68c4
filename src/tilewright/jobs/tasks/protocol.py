"""The protocol of a task: `Task`, its `Measure` values, and the `Scores` it returns. NumPy only."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import CheckFailed

__all__ = ["Loss", "Measure", "Scores", "Split", "Task"]

Split = Literal["validation", "test"]
"""``validation`` is for choices during a job; ``test`` is only for evaluating a finished model."""

Loss = Literal["cosine", "cross-entropy", "mse"]

_RESAMPLES = 1000
"""Number of bootstrap draws: enough for the ends to vary by only a tenth of the interval between seeds."""


def _same(mean: float) -> float:
    return mean


@dataclass(frozen=True)
class Measure:
    """A number that says how good a model is.

    Parameters
    ----------
    name
        Short name, as in records and reports: ``"mrr"``, ``"accuracy"``, ``"perplexity"``.
    unit
        Unit; ``"1"`` for shares and ratios.
    higher_is_better
        Whether higher values are better.
    meaning
        Explanation in one plain sentence, for a reader who does not know the measure.
    of_mean
        Function from the mean over items to the value. Default: the identity; ``exp`` for a perplexity.
    """

    name: str
    unit: str
    higher_is_better: bool
    meaning: str
    of_mean: Callable[[float], float] = field(default=_same, repr=False, compare=False)

    def share(self, value: float, dense: float) -> float:
        """Return the share of the dense model's quality that is left: 1 for as good, less for worse, whatever the direction.

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
    """Results of an evaluation, item by item, for intervals and for paired comparisons between models.

    Parameters
    ----------
    items
        Values of each measure by name, one per item, ``[items]``.
    measures
        The measures, the task's main one first.
    weights
        Weight of each item, such as its number of tokens, ``[items]``. Default: equal weights.

    Raises
    ------
    CheckFailed
        If a value is NaN or infinite.

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
                    f"the model's {name} is NaN or infinite on {np.count_nonzero(~np.isfinite(values))} of {len(values)} items; check for "
                    "weights that overflowed or a recovery that diverged"
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
            Name of the measure.
        level
            Confidence level: the share of the draws inside the interval.
        seed
            Seed of the draws. Use the same seed for all models, so that their intervals use the same draws.
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
    """A task: the evaluation of a model, and the data that it may train on.

    ``model`` is always the result of `read_model`, or a copy: a SentenceTransformer, a transformers model, or a plain module.
    """

    name: str
    """Name in recipes: ``retrieval``, ``classification``, ``regression``, ``next-token``, ``images`` or ``match``."""

    description: str
    """One plain sentence that says what the model does, and on which data."""

    measures: tuple[Measure, ...]
    """All measures, the main one first."""

    unit: str
    """What an item is, in the plural: pairs, texts, images."""

    loss: Loss
    """Loss between outputs and the dense model's in recovery: ``cosine``, ``mse`` or ``cross-entropy``."""

    digest: str
    """SHA-256 of the data: two runs with the same digest used the same data."""

    def refer(self, dense: Any) -> None:
        """Record what measures of similarity need from the dense model; call it once, before anything is changed."""

    def evaluate(self, model: Any, split: Split = "test") -> Scores:
        """Evaluate a model on held-out items.

        Raises
        ------
        CheckFailed
            If the model's outputs are NaN or infinite.
        """

    def batches(self, size: int, *, tokens: int, seed: int) -> Any:
        """Return endless shuffled batches of items outside both splits, for recovery and calibration; see `training.Batches`.

        Parameters
        ----------
        size
            Items per batch.
        tokens
            Maximum tokens per text; longer texts are truncated. No effect on other items.
        seed
            Seed of the order.
        """

    def output(self, result: Any, batch: Any) -> Any:
        """Return the tensor in a model's result for a batch that recovery compares with the dense model's."""

    def example(self, count: int) -> dict[str, Any]:
        """Return the inputs of one call on `count` items, tensors by name; for a plain module, in the order of its parameters."""
