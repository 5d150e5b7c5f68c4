"""Next tokens: how well a language model predicts running text."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...training import Batches
from ..corpus import python_docs
from ..recipe.data import TextData
from ..sources import Source
from .calling import answer_of, answers, chunks, longest, tokenizer_of
from .files import digest_of, split, text_of
from .protocol import Loss, Measure, Scores, Split

__all__ = ["NextToken"]


class NextToken:
    """Windows of running text, in each of which every token but the first is to be predicted from those before it.

    Parameters
    ----------
    data
        The text, and how it is cut.
    source
        The model's folder, for its tokenizer.
    model
        The dense model.
    """

    name = "next-token"
    description = "Next tokens: in windows of running text, every token is predicted from those before it."
    unit = "windows"
    loss: Loss = "cross-entropy"
    measures: tuple[Measure, ...] = (
        Measure(
            "perplexity",
            "1",
            False,
            "How many tokens the model hesitates between, on average, when it predicts the next one; 1 would be certainty.",
            of_mean=math.exp,
        ),
        Measure("accuracy", "1", True, "Share of the next tokens that the model puts first."),
    )

    def __init__(self, data: TextData, source: Source, model: Any) -> None:
        tokenizer = tokenizer_of(source.folder, self.name)
        text = "\n\n".join(python_docs(10).passages) if data.file is None else text_of(Path(data.file))
        # Only as much text as can be used is tokenized; a token has fewer than 12 characters in any language that is worth training on.
        ids = tokenizer(text[: 12 * data.windows * data.tokens], verbose=False)["input_ids"]
        length = min(data.tokens, longest(model, tokenizer))
        windows = [tuple(ids[at : at + length]) for at in range(0, len(ids) - length + 1, length)]
        what = data.file or "the running Python's documentation"
        self._parts = split(list(dict.fromkeys(windows))[: data.windows], data.validation, data.test, data.seed, what)
        self.digest = digest_of(self._parts)

    def refer(self, dense: Any) -> None:
        """Do nothing: the text itself is the measure."""

    def evaluate(self, model: Any, split: Split = "test") -> Scores:
        """Return the mean loss and accuracy of every window."""
        losses, hits = [], []
        windows = self._parts.test if split == "test" else self._parts.validation
        for batch, logits in answers(model, map(self._collate, chunks(windows))):
            goal = batch["input_ids"][:, 1:]
            said = logits[:, :-1].log_softmax(-1)
            losses.append(-said.gather(-1, goal[..., None])[..., 0].double().mean(1).numpy())
            hits.append((said.argmax(-1) == goal).double().mean(1).numpy())
        return Scores({"perplexity": np.concatenate(losses), "accuracy": np.concatenate(hits)}, self.measures)

    def batches(self, size: int, *, tokens: int, seed: int) -> Batches:
        """Return windows of the rest of the text, cut to so many tokens."""
        items = [window[:tokens] for window in self._parts.train]
        return Batches(items, size, seed=seed, collate=self._collate)

    def output(self, result: Any, batch: Any) -> Tensor:
        """Return the logits."""
        return answer_of(result)

    def example(self, count: int) -> dict[str, Tensor]:
        """Return so many windows."""
        return self._collate((self._parts.test * (count // len(self._parts.test) + 1))[:count])

    def _collate(self, windows: Any) -> dict[str, Tensor]:
        ids = torch.tensor([list(window) for window in windows])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
