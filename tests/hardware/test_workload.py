"""Workloads: what timing knows about weights and operations, against counts by hand and from masks."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tilewright.errors import ArgumentError, PatternError
from tilewright.formats import pack
from tilewright.hardware import Operation, WeightView, Workload
from tilewright.patterns import mask, parse


def product(name="fc", M=3, N=8, K=12, **more):
    return Operation(name, "linear", M, N, K, weight=WeightView.dense(N, K), **more)


def packed(text, outputs, inputs, seed=0):
    rng = np.random.default_rng(seed)
    pattern = parse(text)
    dense = rng.standard_normal((outputs, inputs)).astype(np.float32)
    kept = mask(pattern, np.abs(dense))
    return pack(dense * kept, pattern, kept)


@pytest.mark.parametrize("text", ["2:4", "1:8", "2:4x8", "tw8@75%", "tew8@70%+5%", "tvw8@75%", "any@80%"])
@given(st.integers(1, 40), st.integers(8, 70), st.integers(0, 3))
def test_a_view_counts_what_the_mask_keeps(text, outputs, inputs, seed):
    assume(not parse(text).refusal((outputs, inputs)))
    try:
        weight = packed(text, outputs, inputs, seed)
    except PatternError:  # too small a weight for whole tile columns
        assume(not text.startswith("tew"))
        raise
    view = WeightView.of(weight)
    assert view.kept == np.count_nonzero(weight.mask())
    assert view.real
    assert view.widths.sum() == view.rows <= outputs
    assert view.density == view.kept / (outputs * inputs)


@given(st.sampled_from(["2:4", "1:8", "4:16", "2:4x8"]), st.integers(1, 30), st.integers(16, 90))
def test_what_n_of_m_says_of_itself_is_what_packing_finds(text, outputs, inputs):
    view, real = WeightView.expected(parse(text), outputs, inputs), WeightView.of(packed(text, outputs, inputs))
    assert (view.kept, view.rows, view.tile) == (real.kept, real.rows, real.tile)
    np.testing.assert_array_equal(view.counts, real.counts)
    np.testing.assert_array_equal(view.widths, real.widths)
    assert not view.real


@pytest.mark.parametrize("text", ["tw8@75%", "tw16@50%"])
def test_what_tile_wise_says_of_itself_is_near_its_density(text):
    pattern = parse(text)
    view = WeightView.expected(pattern, 768, 768)
    assert view.density == pytest.approx(pattern.density, rel=0.01)
    assert view.rows < 768


def test_a_pattern_that_does_not_say_what_it_keeps():
    with pytest.raises(PatternError, match="pack a pruned model, or use an n:m or tile-wise pattern"):
        WeightView.expected(parse("any@90%"), 8, 8)


def test_counts_of_an_operation():
    one = Operation("qk", "matmul", M=5, N=7, K=3, copies=4, reads=1, writes=2)
    assert (one.macs, one.useful, one.flops) == (420, 420, 840)
    cell = Operation("rnn", "recurrent", M=2, N=8, K=4, steps=10, weight=WeightView.dense(8, 4))
    assert cell.macs == cell.useful == 640
    pruned = product(N=8, K=16).with_weight(WeightView.expected(parse("2:4"), 8, 16))
    assert pruned.useful * 2 == pruned.macs
    soft = Operation("soft", "softmax", row=9, reads=90, writes=90, function="softmax")
    assert (soft.macs, soft.useful, soft.flops, soft.is_product) == (0, 0, 90, False)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Operation("x", "loop"), "operation x: unknown kind 'loop'; .*xpected one of 'linear', 'conv'"),
        (lambda: Operation("x", "linear", 0, 1, 1), "a product needs M, N and K of at least 1, got M=0"),
        (
            lambda: Operation("x", "linear", 1, 1, 1, weight=WeightView.dense(2, 1)),
            r"the weight has shape \(2, 1\), but N=1",
        ),
        (lambda: Workload("net", (product("a"), product("a"))), "net has two operations named a"),
        (
            lambda: Workload("net", (product("a", inputs=("b",)), product("b"))),
            "a waits for b, which must come before it",
        ),
    ],
)
def test_refusals(make, words):
    with pytest.raises(ArgumentError, match=words):
        make()


def test_totals_and_patterns_of_a_workload():
    net = Workload(
        "net",
        (product("a", K=16), product("odd", K=3, inputs=("a",)), Operation("add", "elementwise", reads=4, writes=2)),
        batch=2,
    )
    assert (len(net), net.macs) == (3, 3 * 8 * 16 + 3 * 8 * 3)
    sparse = net.with_pattern(parse("2:4"))
    assert [o.name for o in sparse] == ["a", "odd", "add"]
    assert sparse.operations[0].useful * 2 == sparse.operations[0].macs
    assert sparse.macs == net.macs
    assert sparse.with_pattern(None).useful == net.useful
    assert net.useful == net.macs


def test_another_batch():
    net = Workload(
        "net",
        (
            product("fc", M=6, reads=72, writes=48),
            Operation("qk", "matmul", M=5, N=5, K=4, copies=4, reads=80, writes=100, inputs=("fc",)),
            Operation("outer", "matmul", M=6, N=5, K=4, copies=3, reads=9, writes=8),
            Operation("soft", "softmax", row=5, reads=100, writes=100, function="softmax"),
        ),
        batch=2,
    )
    more = net.with_batch(6)
    assert more.batch == 6
    assert [(o.M, o.copies, o.reads, o.writes) for o in more] == [
        (18, 1, 216, 144),
        (5, 12, 240, 300),
        (18, 3, 9, 24),
        (0, 1, 300, 300),
    ]
    assert more.operations[3].row == 5
    assert net.with_batch(2) is net
    with pytest.raises(ArgumentError, match="batch must be at least 1, got 0"):
        net.with_batch(0)


def test_the_table_shows_work_bytes_and_intensity():
    net = Workload("net", (product(M=4, N=8, K=16, reads=64, writes=32),)).with_pattern(parse("2:4"))
    report = net.table("float16")
    (row,) = report.rows
    assert row["flops"] == 2 * 4 * 8 * 16
    assert row["weight bytes"] == 8 * 8 * 2
    assert row["activation bytes"] == 96 * 2
    assert row["flops/byte"] == pytest.approx(1024 / (128 + 192))
    assert (row["pattern"], row["density"]) == ("2:4", 0.5)
    assert report.summary["useful MACs"] == 256
