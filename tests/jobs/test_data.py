"""The corpus is real and split without overlap, and retrieval quality is computed correctly."""

import numpy as np
import pytest

from tilewright.errors import ArgumentError, CheckFailed
from tilewright.jobs import python_docs
from tilewright.jobs.retrieval import rate


@pytest.fixture(scope="module")
def corpus():
    return python_docs(200, seed=1)


def test_pairs_and_passages_share_no_text(corpus):
    held_out = {text for pair in corpus.pairs for text in pair}
    assert len(corpus.pairs) == 200
    assert len(held_out) == 400
    assert not held_out & set(corpus.passages)
    assert len(corpus.passages) > 5000


def test_passages_are_distinct_and_of_sane_length(corpus):
    assert len(set(corpus.passages)) == len(corpus.passages)
    assert all(40 <= len(text) <= 1200 for text in corpus.passages)


def test_the_same_seed_gives_the_same_corpus(corpus):
    again = python_docs(200, seed=1)
    assert again == corpus
    assert python_docs(200, seed=2).pairs != corpus.pairs


def test_a_well_known_docstring_is_in_it(corpus):
    held_out = [text for pair in corpus.pairs for text in pair]
    assert any("namedtuple" in text for text in (*corpus.passages, *held_out))


def test_too_many_pairs_are_refused():
    with pytest.raises(
        ArgumentError, match=r"10000000 pairs requested, but .* has only \d+ docstrings with two paragraphs"
    ):
        python_docs(10_000_000)


def test_ratings_by_hand():
    queries = np.eye(4, dtype=np.float32)
    texts = queries[[0, 2, 1, 3]]  # queries 1 and 2 retrieve each other's text
    quality = rate((queries, texts), (queries, queries))
    assert quality.recall == 0.5
    # The wrong text scores 1; the right one scores 0 and ties with two others, which count as ranked before it.
    assert quality.mrr == pytest.approx((1 + 1 / 4 + 1 / 4 + 1) / 4)
    assert quality.cosine == pytest.approx((1 + 0.5) / 2)


def test_embeddings_that_are_no_numbers_are_no_quality():
    good = np.eye(3, dtype=np.float32)
    with pytest.raises(CheckFailed, match="contain NaN or infinity"):
        rate((np.full_like(good, np.nan), good), (good, good))


def test_a_constant_embedding_ranks_last_not_first():
    same = np.ones((5, 3), dtype=np.float32) / np.sqrt(3).astype(np.float32)
    assert rate((same, same), (same, same)).recall == 0
