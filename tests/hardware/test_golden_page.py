"""Integers written from the page alone equal the golden ones, so the page is enough to build from."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilewright import patterns
from tilewright.formats import pack
from tilewright.hardware import golden

SOURCE = Path(__file__).with_name("golden_from_page.py")


@pytest.fixture(scope="module")
def page():
    spec = importlib.util.spec_from_file_location("golden_from_page", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reader_of_the_page_knows_nothing_else():
    assert "tilewright" not in SOURCE.read_text().split('"""')[2]
    assert "numpy" not in SOURCE.read_text()


@given(
    st.lists(st.integers(-(2**31), 2**31 - 1), max_size=9), st.floats(2.0**-35, 2.0**29), st.sampled_from([8, 16, 24])
)
def test_requantisation(page, accumulators, scale, bits):
    outputs = golden.requantise(np.array(accumulators, dtype=np.int64), golden.fixed_point(scale), bits)
    assert outputs.tolist() == [page.requantise(acc, scale, bits) for acc in accumulators]


@given(st.sampled_from(["2:4", "1:8", "8:64", "3:5"]), st.integers(1, 6), st.integers(9, 70), st.integers(0, 99))
def test_products(page, text, N, K, seed):
    rng, pattern = np.random.default_rng(seed), patterns.parse(text)
    weight = rng.standard_normal((N, K)).astype(np.float32)
    mask = patterns.mask(pattern, np.abs(weight))
    packed = golden.IntegerWeight.of(pack(np.where(mask, weight, 0).astype(np.float32), pattern, mask))
    x, bias = rng.integers(-128, 128, (2, K)).astype(np.int8), rng.integers(-(2**20), 2**20, N)
    values, positions = packed.values.tolist(), packed.positions.tolist()
    expected = [
        [page.dot(row, values[n], positions[n], packed.m, int(bias[n])) for n in range(N)] for row in x.tolist()
    ]
    assert golden.sparse_dense(x, packed, bias).tolist() == expected


@given(
    st.lists(st.tuples(st.integers(-(2**31), 2**31 - 1) | st.integers(-900, 900), st.booleans()), max_size=40),
    st.sampled_from([1e-8, 0.003, 0.1, 5.0]), st.sampled_from([1, 4, 16]), st.sampled_from([7, 8, 15]),
)  # fmt: skip
def test_softmax(page, row, scale, lanes, bits):
    scores, masked = [score for score, _ in row], [hidden for _, hidden in row]
    outputs = golden.SoftmaxUnit(scale, lanes, bits).run(
        np.array([scores], dtype=np.int64), ~np.array([masked], dtype=bool)
    )
    assert outputs[0].tolist() == page.softmax(scores, masked, scale, lanes, bits)


@given(
    st.integers(1, 60), st.integers(0, 999), st.sampled_from([0, 2, 900, 32767]), st.sampled_from([1 / 32, 0.3, 2.0])
)
def test_layer_norm(page, size, seed, spread, scale_out):
    rng = np.random.default_rng(seed)
    gamma, beta = rng.standard_normal((2, size))
    x = rng.integers(-spread, spread + 1, size).tolist()
    unit = golden.LayerNormUnit.of(gamma, beta, 1e-5, 1 / 700, scale_out)
    assert unit.run(np.array([x]))[0].tolist() == page.layer_norm(
        x, gamma.tolist(), beta.tolist(), 1e-5, 1 / 700, scale_out
    )


@given(st.floats(0.001, 0.5), st.floats(0.001, 0.5))
def test_gelu(page, scale_in, scale_out):
    table = golden.gelu_table(scale_in, scale_out).tolist()
    assert table == [page.gelu(x, scale_in, scale_out) for x in range(-128, 128)]
