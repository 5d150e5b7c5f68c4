"""Retrieval: find the second paragraph of a docstring given the first, for sentence-embedding models."""

from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from ...training import Batches, mean_pooled
from ..corpus import python_docs
from ..recipe.data import RetrievalData
from ..retrieval import Embedded, embed, rate
from .calling import padded
from .protocol import Loss, Measure, Scores, Split

__all__ = ["Retrieval"]


class Retrieval:
    """Retrieval on held-out pairs of the running Python's documentation; the rest of it is for training.

    Parameters
    ----------
    data
        Number of pairs, and the seed that selects them.
    model
        The dense SentenceTransformer, whose tokenizer is used.
    """

    name = "retrieval"
    description = "Retrieval on the documentation of the running Python: the first paragraph of a docstring must find its second among all held-out ones."
    unit = "pairs"
    loss: Loss = "cosine"
    measures: tuple[Measure, ...] = (
        Measure(
            "mrr",
            "1",
            True,
            "Mean reciprocal rank: 1 if the right text comes first, 1/2 if it comes second, and so on, averaged over all queries.",
        ),
        Measure("recall@1", "1", True, "Share of queries for which the right text comes first."),
        Measure(
            "cosine",
            "1",
            True,
            "Similarity of the embeddings to the dense model's: 1 for the same direction, averaged over all texts.",
        ),
    )

    def __init__(self, data: RetrievalData, model: Any) -> None:
        corpus = python_docs(data.pairs + data.validation, data.seed)
        self.pairs: dict[Split, tuple[tuple[str, str], ...]] = {
            "test": corpus.pairs[: data.pairs],
            "validation": corpus.pairs[data.pairs :],
        }
        self.corpus = replace(corpus, pairs=self.pairs["test"])
        self.digest = corpus.digest
        self._model = model
        self._dense: dict[Split, Embedded] = {}

    def refer(self, dense: Any) -> None:
        """Embed the pairs with the dense model."""
        self._dense = {split: embed(dense, pairs) for split, pairs in self.pairs.items() if pairs}

    def evaluate(self, model: Any, split: Split = "test") -> Scores:
        """Return the rank and the similarity for every pair."""
        quality = rate(embed(model, self.pairs[split]), self._dense[split])
        first = (quality.ranks == 1).astype(np.float64)
        return Scores({"mrr": 1.0 / quality.ranks, "recall@1": first, "cosine": quality.cosines}, self.measures)

    def batches(self, size: int, *, tokens: int, seed: int) -> Batches:
        """Return batches of passages of similar length, truncated to `tokens` tokens."""
        tokenizer = self._model.tokenizer
        passages = list(self.corpus.passages)
        items = [ids[:tokens] for ids in tokenizer(passages, truncation=True, max_length=tokens)["input_ids"]]
        pad = tokenizer.pad_token_id or 0
        return Batches(
            items, size, seed=seed, collate=lambda rows: padded(rows, pad), lengths=[len(ids) for ids in items]
        )

    def output(self, result: Any, batch: Any) -> Tensor:
        """Return the sentence embeddings."""
        return mean_pooled(result, batch)

    def example(self, count: int) -> dict[str, Tensor]:
        """Return a batch of `count` queries, as inputs of the encoder."""
        pairs = python_docs(max(10, count)).pairs
        model = self._model
        tokens = model.tokenizer(
            [first for first, _ in pairs[:count]],
            padding=True,
            truncation=True,
            max_length=model.max_seq_length,
            return_tensors="pt",
        )
        return {name: tokens[name] for name in ("input_ids", "attention_mask")}
