"""Next-token prediction: how well a language model predicts running text."""

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
    """Next-token prediction on windows of running text; every token but the first is predicted from those before it.

    Parameters
    ----------
    data
        The text and its windows.
    source
        Folder of the model, for its tokenizer.
    model
        The dense model.
    """

    name = "next-token"
    description = "Next-token prediction: in windows of running text, every token is predicted from those before it."
    unit = "windows"
    loss: Loss = "cross-entropy"
    measures: tuple[Measure, ...] = (
        Measure(
            "perplexity",
            "1",
            False,
            "How many equally likely tokens the model is choosing among, on average, when it predicts the next one; 1 would be certainty.",
            of_mean=math.exp,
        ),
        Measure("accuracy", "1", True, "Share of next tokens that the model ranks first."),
    )

    def __init__(self, data: TextData, source: Source, model: Any) -> None:
        tokenizer = tokenizer_of(source.folder, self.name)
        text = "\n\n".join(python_docs(10).passages) if data.file is None else text_of(Path(data.file))
        # Tokenize only as much text as can be used; tokens average fewer than 12 characters in any useful tokenizer.
        ids = tokenizer(text[: 12 * data.windows * data.tokens], verbose=False)["input_ids"]
        length = min(data.tokens, longest(model, tokenizer))
        windows = [tuple(ids[at : at + length]) for at in range(0, len(ids) - length + 1, length)]
        what = data.file or "the running Python's documentation"
        self._parts = split(list(dict.fromkeys(windows))[: data.windows], data.validation, data.test, data.seed, what)
        self.digest = digest_of(self._parts)

    def refer(self, dense: Any) -> None:
        """Do nothing: the text itself is the reference."""

    def evaluate(self, model: Any, split: Split = "test") -> Scores:
        """Return the mean loss and the accuracy for every window."""
        losses, hits = [], []
        windows = self._parts.test if split == "test" else self._parts.validation
        for batch, logits in answers(model, map(self._collate, chunks(windows))):
            target = batch["input_ids"][:, 1:]
            predicted = logits[:, :-1].log_softmax(-1)
            losses.append(-predicted.gather(-1, target[..., None])[..., 0].double().mean(1).numpy())
            hits.append((predicted.argmax(-1) == target).double().mean(1).numpy())
        return Scores({"perplexity": np.concatenate(losses), "accuracy": np.concatenate(hits)}, self.measures)

    def batches(self, size: int, *, tokens: int, seed: int) -> Batches:
        """Return batches of windows from the training part, truncated to `tokens` tokens."""
        items = [window[:tokens] for window in self._parts.train]
        return Batches(items, size, seed=seed, collate=self._collate)

    def output(self, result: Any, batch: Any) -> Tensor:
        """Return the logits."""
        return answer_of(result)

    def example(self, count: int) -> dict[str, Tensor]:
        """Return a batch of `count` windows."""
        return self._collate((self._parts.test * (count // len(self._parts.test) + 1))[:count])

    def _collate(self, windows: Any) -> dict[str, Tensor]:
        ids = torch.tensor([list(window) for window in windows])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
