"""What a network does between its products: every implementation against the definition, on batches of any lengths."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tilewright import kernels
from tilewright.errors import ArgumentError
from tilewright.kernels import OPERATIONS, reference

from .cases import FAST

BUDGET = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
TOLERANCE = {o.name: o.tolerance.relative for o in OPERATIONS}
WIDTHS = st.sampled_from([48, 16, 32, 64, 144])
LENGTHS = st.lists(st.one_of(st.sampled_from([1, 3, 16, 20, 48, 50, 97]), st.integers(0, 120)), min_size=1, max_size=6)


def starts_of(lengths):
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def panels(rng, tokens, features, T):
    """Return panels whose lanes after the last token hold NaN: nobody may look at them."""
    filled = reference.pack_panels(rng.standard_normal((tokens, features), dtype=np.float32), T)
    if tokens % T:
        filled[-1, :, tokens % T :] = np.nan
    return filled


def tokens_of(y, tokens):
    return reference.unpack_panels(y, tokens)


def largest_score(case, q, k):
    """Return the largest sum of magnitudes behind a score of each token and head, for each feature: ``[tokens, heads * depth]``."""
    shape, starts = (len(q), -1 if len(q) else 1, case.depth), starts_of(case.lengths)
    queries, keys = np.abs(q).reshape(shape), np.abs(k).reshape(shape)
    largest = np.zeros((len(q), case.groups * case.sharing))
    for begin, end in pairwise(starts):
        for head in range(largest.shape[1] if end > begin else 0):
            products = queries[begin:end, head] @ keys[begin:end, head // case.sharing].T
            largest[begin:end, head] = products.max(axis=1)
    return np.repeat(largest, case.depth, axis=1)


@dataclass(frozen=True)
class Attention:
    lengths: tuple[int, ...]
    groups: int
    sharing: int
    depth: int
    T: int
    causal: bool
    threads: int
    seed: int


ATTENTIONS = st.builds(
    Attention,
    LENGTHS.map(tuple),
    st.integers(1, 3),
    st.integers(1, 3),
    st.one_of(st.sampled_from([64, 32, 1, 7, 8, 9]), st.integers(1, 70)),
    WIDTHS,
    st.booleans(),
    st.sampled_from([1, 2]),
    st.integers(0, 2**32 - 1),
)


@pytest.mark.parametrize("implementation", FAST)
def test_attention_agrees_with_the_definition(implementation):
    @BUDGET
    @given(ATTENTIONS)
    def check(case):
        rng, starts, T = np.random.default_rng(case.seed), starts_of(case.lengths), case.T
        tokens, heads = int(starts[-1]), case.groups * case.sharing
        q = panels(rng, tokens, heads * case.depth, T)
        k, v = (panels(rng, tokens, case.groups * case.depth, T) for _ in range(2))
        scale = case.depth**-0.5
        options = {"key_heads": case.groups, "causal": case.causal}
        y = kernels.attention_panels(
            q, k, v, starts, heads, **options, threads=case.threads, implementation=implementation
        )
        assert kernels.last_implementation() == implementation
        definition = (starts, heads, case.groups, case.causal, scale)
        expected = reference.attention_panels(q, k, v, *definition)
        # An error in a score is an error of the same size, relative, in its weight: scores err by their own magnitudes.
        magnitude = reference.attention_panels(q, k, np.abs(v), *definition)
        scores = scale * largest_score(case, tokens_of(q, tokens), tokens_of(k, tokens))
        allowed = TOLERANCE["attention"] * (1 + scores) * tokens_of(magnitude, tokens) + 1e-30
        wrong = ~(np.abs(tokens_of(y, tokens) - tokens_of(expected, tokens)) <= allowed)
        assert not wrong.any(), f"{wrong.sum()} of {wrong.size} wrong, first at {np.argwhere(wrong)[0]}"

    check()


@pytest.mark.parametrize("implementation", FAST)
def test_a_sequence_does_not_notice_those_beside_it(implementation):
    rng, lengths = np.random.default_rng(0), [5, 30, 1, 60, 20]
    starts, rows = starts_of(lengths), [rng.standard_normal((116, 16), dtype=np.float32) for _ in range(3)]
    together = kernels.attention_panels(
        *(reference.pack_panels(x, 48) for x in rows), starts, 2, implementation=implementation
    )
    for begin, end in pairwise(starts):
        alone = kernels.attention_panels(
            *(reference.pack_panels(x[begin:end], 48) for x in rows),
            starts_of([end - begin]),
            2,
            implementation=implementation,
        )
        np.testing.assert_allclose(
            tokens_of(together, 116)[begin:end], tokens_of(alone, int(end - begin)), atol=1e-6, rtol=1e-5
        )


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("causal", [False, True])
def test_large_scores_neither_overflow_nor_vanish(implementation, causal):
    rng = np.random.default_rng(1)
    q, k, v = (reference.pack_panels(100 * rng.standard_normal((100, 8), dtype=np.float32), 48) for _ in range(3))
    starts = starts_of([100])
    y = kernels.attention_panels(q, k, v, starts, 1, causal=causal, implementation=implementation)
    expected = reference.attention_panels(q, k, v, starts, 1, 1, causal, 8**-0.5)
    np.testing.assert_allclose(tokens_of(y, 100), tokens_of(expected, 100), rtol=2e-2, atol=2e-2)
    assert np.isfinite(tokens_of(y, 100)).all()


@pytest.mark.parametrize("implementation", FAST)
def test_norms_agree_with_the_definition(implementation):
    @BUDGET
    @given(
        st.integers(0, 3),
        st.one_of(st.sampled_from([1, 2, 64, 385]), st.integers(1, 400)),
        WIDTHS,
        st.booleans(),
        st.booleans(),
        st.booleans(),
        st.sampled_from([0.0, 3.0, 1000.0]),
        st.integers(0, 2**32 - 1),
    )
    def check(P, F, T, shifted, added, centred, offset, seed):
        rng = np.random.default_rng(seed)
        x = (rng.standard_normal((P, F, T)) + offset).astype(np.float32)
        residual = rng.standard_normal((P, F, T), dtype=np.float32) if added else None
        scale = rng.standard_normal(F, dtype=np.float32)
        shift = rng.standard_normal(F, dtype=np.float32) if shifted else None
        y, total = kernels.norm_panels(
            x, scale, shift, residual=residual, epsilon=1e-5, centred=centred, threads=2, implementation=implementation
        )
        assert kernels.last_implementation() == implementation
        expected, whole = reference.norm_panels(x, scale, shift, residual, 1e-5, centred)
        np.testing.assert_allclose(total, whole, rtol=1e-6)
        # Rounding of x + residual and of the mean is relative to their own size, and divided by the deviation like the rest.
        left = whole - whole.mean(axis=1, keepdims=True) if centred else whole
        root = np.sqrt((left.astype(np.float64) ** 2).mean(axis=1, keepdims=True) + 1e-5)
        size = (np.abs(whole) + np.abs(whole).mean(axis=1, keepdims=True)) / root
        allowed = (
            TOLERANCE["norm"] * ((1 + size) * (1 + size.max(initial=0)) * np.abs(scale)[:, None] + np.abs(expected))
            + 1e-30
        )
        assert (np.abs(y - expected) <= allowed).all()

    check()


def test_the_mean_of_a_norm_is_taken_away_before_the_squares():
    x = np.full((1, 64, 16), 4096.0, np.float32)
    x[0, ::2] += 1
    for implementation in FAST:
        y, _ = kernels.norm_panels(x, np.ones(64, np.float32), epsilon=0.0, implementation=implementation)
        np.testing.assert_allclose(np.abs(y), 1, rtol=1e-5)


@pytest.mark.parametrize("implementation", FAST)
def test_embeddings_and_pooling_agree_with_the_definition(implementation):
    @BUDGET
    @given(LENGTHS, st.integers(1, 3), st.integers(1, 70), WIDTHS, st.sampled_from([1, 2]), st.integers(0, 2**32 - 1))
    def check(lengths, count, F, T, threads, seed):
        rng, lengths = np.random.default_rng(seed), [max(length, 1) for length in lengths]
        starts, options = starts_of(lengths), {"threads": threads, "implementation": implementation}
        tables = [rng.standard_normal((5 + i, F), dtype=np.float32) for i in range(count)]
        ids = np.array([rng.integers(0, 5 + i, starts[-1]) for i in range(count)], dtype=np.int64)
        y, expected = kernels.embed_panels(tables, ids, T, **options), reference.embed_panels(tables, ids, T)
        magnitude = reference.embed_panels([np.abs(table) for table in tables], ids, T)
        assert (np.abs(y - expected) <= TOLERANCE["embed"] * magnitude).all()
        for kind in ("mean", "first"):
            pooled = kernels.pool_panels(y, starts, kind, **options)
            assert kernels.last_implementation() == implementation
            size = reference.pool_panels(np.abs(y), starts, kind == "mean")
            difference = np.abs(pooled - reference.pool_panels(y, starts, kind == "mean"))
            assert (difference <= TOLERANCE["pool"] * size).all()

    check()


def test_every_operation_is_held_against_its_definition_here_or_beside_the_weights():
    mine = {"norm", "attention", "embed", "pool"}
    assert {o.name for o in OPERATIONS if not o.entry.startswith(("linear", "pack", "unpack"))} == mine
    assert all(
        callable(getattr(kernels, o.entry)) and callable(getattr(reference, o.entry))
        for o in OPERATIONS
        if o.name in mine
    )


X = np.zeros((2, 12, 16), np.float32)
STARTS = np.array([0, 20, 32], np.int64)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: kernels.norm_panels(X, np.ones(11, np.float32)), r"scale must have shape \[F\] = \[12\]"),
        (lambda: kernels.norm_panels(X[:, :, :15].copy(), np.ones(12, np.float32)), "multiple of 16"),
        (lambda: kernels.norm_panels(X, np.ones(12, np.float32), residual=X[:1]), "residual must have shape"),
        (lambda: kernels.norm_panels(X, np.ones(12, np.float32), epsilon=-1.0), "epsilon of at least 0"),
        (lambda: kernels.norm_panels(X, np.ones(12, np.float64)), "scale must be float32"),
        (lambda: kernels.attention_panels(X, X, X, STARTS, 5), "features must be a multiple of heads"),
        (lambda: kernels.attention_panels(X, X, X, STARTS, 4, key_heads=3), "multiple of heads"),
        (lambda: kernels.attention_panels(X, X, X, STARTS, 4, key_heads=2), r"k must have shape .* = \[2, 6, 16\]"),
        (
            lambda: kernels.attention_panels(X, X, X, STARTS.astype(np.int32), 4),
            r"starts must be a C-contiguous int64 array \[sequences \+ 1\]; got int32 \[3\]",
        ),
        (lambda: kernels.attention_panels(X, X, X, STARTS[::-1], 4), "starts must be a C-contiguous int64"),
        (
            lambda: kernels.attention_panels(X, X, X, [0, 32], 4),
            "starts must be a C-contiguous int64 array .*; got list",
        ),
        (
            lambda: kernels.attention_panels(X, X, X, np.array([0, 33], np.int64), 4),
            "33 tokens fill 3 panels of 16; got 2",
        ),
        (lambda: kernels.attention_panels(X, X, X, np.array([1, 32], np.int64), 4), "starts must be 0"),
        (lambda: kernels.embed_panels([X[0]], np.array([[12]], np.int64), 16), "ids of table 0 go from 12 to 12"),
        (lambda: kernels.embed_panels([X[0]], np.array([[-1]], np.int64), 16), "ids of table 0 go from -1"),
        (lambda: kernels.embed_panels([], np.zeros((0, 1), np.int64), 16), "at least one table"),
        (lambda: kernels.pool_panels(X, np.array([0, 20, 20, 32], np.int64)), "sequence 1 is empty"),
        (lambda: kernels.pool_panels(X, STARTS, "max"), "unknown kind of pooling 'max'"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(call, words):
    with pytest.raises(ArgumentError, match=words):
        call()
