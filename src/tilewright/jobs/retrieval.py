"""Measure how well a sentence-embedding model retrieves the second paragraph of a docstring given the first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CheckFailed

__all__ = ["Embedded", "Quality", "embed", "rate"]

Embedded = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Normalised embeddings of the first texts and of the second texts, ``[pairs, width]`` each."""


@dataclass(frozen=True)
class Quality:
    """Retrieval quality over all held-out pairs.

    Parameters
    ----------
    ranks
        Rank of each query's correct text among all texts, counted from 1, ``[pairs]``.
    cosines
        Cosine between each pair's embeddings and the dense model's, averaged over query and text, ``[pairs]``.
    """

    ranks: NDArray[np.int64]
    cosines: NDArray[np.float64]

    @property
    def recall(self) -> float:
        """Share of queries whose correct text ranks first (recall@1)."""
        return float(np.mean(self.ranks == 1))

    @property
    def mrr(self) -> float:
        """Mean reciprocal rank."""
        return float(np.mean(1 / self.ranks))

    @property
    def cosine(self) -> float:
        """Mean cosine between the embeddings and the dense model's."""
        return float(np.mean(self.cosines))


def embed(model: Any, pairs: Sequence[tuple[str, str]]) -> Embedded:
    """Return the normalised embeddings ``[pairs, width]`` of the first and the second texts."""
    sides = []
    for side in (0, 1):
        vectors = model.encode(
            [pair[side] for pair in pairs], batch_size=32, show_progress_bar=False, normalize_embeddings=True
        )
        sides.append(np.asarray(vectors, dtype=np.float32))
    return sides[0], sides[1]


def rate(embedded: Embedded, dense: Embedded) -> Quality:
    """Return the retrieval quality of embedded pairs; texts that tie with the correct one count as ranked before it."""
    queries, texts = embedded
    if not (np.isfinite(queries).all() and np.isfinite(texts).all()):
        raise CheckFailed(
            "the model's embeddings contain NaN or infinity; check for weights that overflowed or a recovery that diverged"
        )
    similar = queries @ texts.T
    correct = np.diagonal(similar)[:, None]
    ranks = np.count_nonzero(similar >= correct, axis=1)
    cosines = np.mean([np.sum(a * b, axis=1, dtype=np.float64) for a, b in zip(embedded, dense, strict=True)], axis=0)
    return Quality(ranks, cosines)
