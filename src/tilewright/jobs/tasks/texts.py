"""Texts with a label each: classification by accuracy, regression by mean absolute error."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ...errors import ArgumentError, CheckFailed
from ...training import Batches
from ..sources import Source
from .calling import answer_of, answers, chunks, longest, tokenizer_of
from .files import digest_of
from .labels import Row, labelled
from .protocol import Loss, Measure, Scores, Split

__all__ = ["Classification", "Regression"]


class _Labelled:
    """What both have: rows, tokenizer, batches."""

    unit = "texts"
    name: str
    description: str
    measures: tuple[Measure, ...]

    def __init__(self, data: Any, source: Source, model: Any) -> None:
        self._parts = labelled(data, source)
        self._tokenizer = tokenizer_of(source.folder, self.name)
        if self._tokenizer.pad_token_id is None:
            raise ArgumentError(
                f"the tokenizer of {source.name} has no padding token, so texts of several lengths make no batch; set tokenizer.pad_token and "
                "save it again"
            )
        self._tokens = min(data.max_tokens, longest(model, self._tokenizer))
        self.digest = digest_of(self._parts)
        self._dense: dict[Split, Any] = {}

    def refer(self, dense: Any) -> None:
        """Keep what the dense model says."""
        self._dense = {part: self._said(dense, part) for part in ("validation", "test")}

    def batches(self, size: int, *, tokens: int, seed: int) -> Batches:
        """Return texts without their labels."""
        rows = self._parts.train
        lengths = [sum(map(len, row.texts)) for row in rows]
        return Batches(
            rows, size, seed=seed, collate=lambda some: self._collate(some, min(tokens, self._tokens)), lengths=lengths
        )

    def output(self, result: Any, batch: Any) -> Tensor:
        """Return the logits."""
        return answer_of(result)

    def example(self, count: int) -> dict[str, Tensor]:
        """Return so many texts as tokens."""
        rows = (self._parts.test * (count // len(self._parts.test) + 1))[:count]
        return self._collate(rows, self._tokens)

    def _items(self, part: Split) -> tuple[Row, ...]:
        return self._parts.test if part == "test" else self._parts.validation

    def _said(self, model: Any, part: Split) -> Any:
        calls = (self._collate(some, self._tokens) for some in chunks(self._items(part)))
        return np.concatenate([self._read(answer) for _, answer in answers(model, calls)])

    def _read(self, answer: Tensor) -> Any:
        raise NotImplementedError

    def _collate(self, rows: Sequence[Row], tokens: int) -> dict[str, Tensor]:
        columns = [list(column) for column in zip(*(row.texts for row in rows), strict=True)]
        found = self._tokenizer(*columns, padding=True, truncation=True, max_length=tokens, return_tensors="pt")
        return dict(found)


class Classification(_Labelled):
    """Texts of which each belongs to a class.

    Parameters
    ----------
    data
        The file and its columns.
    source
        The model's folder and configuration.
    model
        The dense model.
    """

    name = "classification"
    description = "Text classification: each text is put into one of the classes that the model knows."
    loss: Loss = "cross-entropy"
    measures: tuple[Measure, ...] = (
        Measure("accuracy", "1", True, "Share of the texts that are put into the right class."),
        Measure("agreement", "1", True, "Share of the texts that are put into the class that the dense model says."),
    )

    def evaluate(self, model: Any, split: Split = "test") -> Scores:
        """Return for every text whether its class is right, and whether it is the dense model's."""
        said, labels = self._said(model, split), np.array([row.label for row in self._items(split)])
        items = {"accuracy": said == labels, "agreement": said == self._dense[split]}
        return Scores({name: right.astype(np.float64) for name, right in items.items()}, self.measures)

    def _read(self, answer: Tensor) -> Any:
        _finite(answer)
        return answer.argmax(-1).numpy()


class Regression(_Labelled):
    """Texts of which each has a number.

    Parameters
    ----------
    data
        The file and its columns.
    source
        The model's folder and configuration.
    model
        The dense model.
    """

    name = "regression"
    description = "Regression: a number is predicted for each text."
    loss: Loss = "mse"
    measures: tuple[Measure, ...] = (
        Measure("mean absolute error", "1", False, "How far the predicted number is from the right one, on average."),
        Measure("distance", "1", False, "How far the predicted number is from the dense model's, on average."),
    )

    def evaluate(self, model: Any, split: Split = "test") -> Scores:
        """Return the error of every text, and its distance from what the dense model says."""
        said, labels = self._said(model, split), np.array([row.label for row in self._items(split)])
        items = {"mean absolute error": np.abs(said - labels), "distance": np.abs(said - self._dense[split])}
        return Scores(items, self.measures)

    def _read(self, answer: Tensor) -> Any:
        return answer.reshape(len(answer), -1)[:, 0].double().numpy()


def _finite(answer: Tensor) -> None:
    """Refuse logits that are none: their largest would be a class all the same."""
    if not answer.isfinite().all():
        raise CheckFailed(
            "the model's logits hold NaN or infinity; look for weights that overflowed, or a recovery that diverged"
        )
