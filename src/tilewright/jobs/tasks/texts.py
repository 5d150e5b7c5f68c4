"""Labelled texts: classification, by accuracy, and regression, by mean absolute error."""

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
    """Base of both tasks: rows, tokenizer and batches."""

    unit = "texts"
    name: str
    description: str
    measures: tuple[Measure, ...]

    def __init__(self, data: Any, source: Source, model: Any) -> None:
        self._parts = labelled(data, source)
        self._tokenizer = tokenizer_of(source.folder, self.name)
        if self._tokenizer.pad_token_id is None:
            raise ArgumentError(
                f"the tokenizer of {source.name} has no padding token, which batches of texts of different lengths need; set "
                "tokenizer.pad_token and save the tokenizer again"
            )
        self._tokens = min(data.max_tokens, longest(model, self._tokenizer))
        self.digest = digest_of(self._parts)
        self._dense: dict[Split, Any] = {}

    def refer(self, dense: Any) -> None:
        """Store the dense model's predictions."""
        self._dense = {part: self._said(dense, part) for part in ("validation", "test")}

    def batches(self, size: int, *, tokens: int, seed: int) -> Batches:
        """Return batches of texts without their labels."""
        rows = self._parts.train
        lengths = [sum(map(len, row.texts)) for row in rows]
        return Batches(
            rows,
            size,
            seed=seed,
            collate=lambda chunk: self._collate(chunk, min(tokens, self._tokens)),
            lengths=lengths,
        )

    def output(self, result: Any, batch: Any) -> Tensor:
        """Return the logits."""
        return answer_of(result)

    def example(self, count: int) -> dict[str, Tensor]:
        """Return a batch of `count` texts as tokens."""
        rows = (self._parts.test * (count // len(self._parts.test) + 1))[:count]
        return self._collate(rows, self._tokens)

    def _items(self, part: Split) -> tuple[Row, ...]:
        return self._parts.test if part == "test" else self._parts.validation

    def _said(self, model: Any, part: Split) -> Any:
        calls = (self._collate(chunk, self._tokens) for chunk in chunks(self._items(part)))
        return np.concatenate([self._read(answer) for _, answer in answers(model, calls)])

    def _read(self, answer: Tensor) -> Any:
        raise NotImplementedError

    def _collate(self, rows: Sequence[Row], tokens: int) -> dict[str, Tensor]:
        columns = [list(column) for column in zip(*(row.texts for row in rows), strict=True)]
        encoded = self._tokenizer(*columns, padding=True, truncation=True, max_length=tokens, return_tensors="pt")
        return dict(encoded)


class Classification(_Labelled):
    """Text classification.

    Parameters
    ----------
    data
        The file and its columns.
    source
        Folder and configuration of the model.
    model
        The dense model.
    """

    name = "classification"
    description = "Text classification: each text is assigned one of the model's classes."
    loss: Loss = "cross-entropy"
    measures: tuple[Measure, ...] = (
        Measure("accuracy", "1", True, "Share of texts that are classified correctly."),
        Measure("agreement", "1", True, "Share of texts for which the predicted class equals the dense model's."),
    )

    def evaluate(self, model: Any, split: Split = "test") -> Scores:
        """Return for every text whether the predicted class is correct, and whether it equals the dense model's."""
        predicted, labels = self._said(model, split), np.array([row.label for row in self._items(split)])
        items = {"accuracy": predicted == labels, "agreement": predicted == self._dense[split]}
        return Scores({name: right.astype(np.float64) for name, right in items.items()}, self.measures)

    def _read(self, answer: Tensor) -> Any:
        _finite(answer)
        return answer.argmax(-1).numpy()


class Regression(_Labelled):
    """Regression: a number is predicted for each text.

    Parameters
    ----------
    data
        The file and its columns.
    source
        Folder and configuration of the model.
    model
        The dense model.
    """

    name = "regression"
    description = "Regression: a number is predicted for each text."
    loss: Loss = "mse"
    measures: tuple[Measure, ...] = (
        Measure("mean absolute error", "1", False, "Average distance of the predicted number from the correct one."),
        Measure("distance", "1", False, "Average distance of the predicted number from the dense model's."),
    )

    def evaluate(self, model: Any, split: Split = "test") -> Scores:
        """Return the error for every text, and the distance from the dense model's prediction."""
        predicted, labels = self._said(model, split), np.array([row.label for row in self._items(split)])
        items = {"mean absolute error": np.abs(predicted - labels), "distance": np.abs(predicted - self._dense[split])}
        return Scores(items, self.measures)

    def _read(self, answer: Tensor) -> Any:
        return answer.reshape(len(answer), -1)[:, 0].double().numpy()


def _finite(answer: Tensor) -> None:
    """Refuse logits that are not finite, since argmax would still return a class."""
    if not answer.isfinite().all():
        raise CheckFailed(
            "the model's logits contain NaN or infinity; check for weights that overflowed or a recovery that diverged"
        )
