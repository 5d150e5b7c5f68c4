"""Single facts about results: pruned outputs, NaN and infinity, extreme activations, no tokens."""

import math

import numpy as np
import pytest

from tilewright import kernels
from tilewright.kernels import ACTIVATIONS, KernelArrays

from .cases import FAST

EDGES = np.array([0.0, -0.0, 1e-30, -1e-30, 0.5, -0.5, 3.9, -4.1, 8.9, -9.2, 40.0, -40.0, 1e30, -1e30], np.float32)


def identity(K: int, tile: int) -> KernelArrays:
    """Return the identity weight, in tiles that keep all their columns."""
    tiles, blocks, columns = -(-K // tile), [], []
    for t in range(tiles):
        width = min(tile, K - t * tile)
        blocks.append(np.eye(width, dtype=np.float32))
        columns.append(np.arange(t * tile, t * tile + width, dtype=np.uint16))
    pointers = np.cumsum([0, *(len(c) for c in columns)]).astype(np.int64)
    return KernelArrays(K, K, tile, np.concatenate([b.ravel() for b in blocks]), np.concatenate(columns), pointers)


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("tokens", [1, 20])
def test_activations_at_their_edges(implementation: str, activation: str, tokens: int) -> None:
    x = np.tile(EDGES, (tokens, 1))
    got = kernels.linear_arrays(x, identity(len(EDGES), 1), None, activation, implementation=implementation)
    z = [float(v) for v in EDGES]
    exact = {
        "none": lambda v: v,
        "relu": lambda v: max(v, 0.0),
        "gelu": lambda v: 0.5 * v * (1 + math.erf(v / math.sqrt(2))),
        "gelu_tanh": lambda v: (
            0.5 * v * (1 + math.tanh(min(max(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3), -99), 99)))
        ),
        "silu": lambda v: 0.5 * v * (1 + math.tanh(v / 2)),
        "tanh": math.tanh,
    }[activation]
    # The functions are accurate relative to z, so the tiny results for very negative z are compared with z.
    slack = 0 if activation in ("none", "relu") else 3e-6
    np.testing.assert_allclose(got, np.tile([exact(v) for v in z], (tokens, 1)), rtol=5e-7, atol=slack)
    if activation == "tanh":
        assert np.abs(got).max() <= 1


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("tokens", [1, 5, 20])
@pytest.mark.parametrize("tile", [1, 4, 8])
def test_nan_survives_and_spreads_only_through_kept_columns(
    implementation: str, activation: str, tokens: int, tile: int
) -> None:
    x = np.ones((tokens, 8), np.float32)
    x[tokens // 2, 1] = np.nan
    got = kernels.linear_arrays(x, identity(8, tile), None, activation, implementation=implementation)
    expected = np.zeros((tokens, 8), bool)
    first = 1 // tile * tile
    expected[tokens // 2, first : first + tile] = True
    assert (np.isnan(got) == expected).all()


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("tokens", [1, 5, 20])
def test_infinity_is_not_clamped(implementation: str, tokens: int) -> None:
    x = np.ones((tokens, 4), np.float32)
    x[0, 2] = np.inf
    for activation in ("none", "relu", "gelu", "silu", "gelu_tanh"):
        assert kernels.linear_arrays(x, identity(4, 1), None, activation, implementation=implementation)[0, 2] == np.inf
    assert kernels.linear_arrays(x, identity(4, 1), None, "tanh", implementation=implementation)[0, 2] == 1


@pytest.mark.parametrize("implementation", [*FAST, "reference"])
@pytest.mark.parametrize("tokens", [1, 20])
def test_a_pruned_output_is_the_activation_of_its_bias(implementation: str, tokens: int) -> None:
    none = np.zeros(0, np.float32)
    w = KernelArrays(5, 3, 4, none, np.zeros(0, np.uint16), np.zeros(1, np.int64), rows=np.zeros(0, np.int32))
    x, bias = np.full((tokens, 3), np.nan, np.float32), np.array([-2, -1, 0, 1, 2], np.float32)
    got = kernels.linear_arrays(x, w, bias, "relu", implementation=implementation)
    assert got.tolist() == [[0, 0, 0, 1, 2]] * tokens
    assert kernels.linear_arrays(x, w, None, "relu", implementation=implementation).tolist() == [[0] * 5] * tokens


@pytest.mark.parametrize("implementation", [*FAST, "reference"])
def test_no_tokens_give_no_rows(implementation: str) -> None:
    x = np.empty((0, 8), np.float32)
    assert kernels.linear_arrays(x, identity(8, 4), implementation=implementation).shape == (0, 8)
    assert kernels.linear_panels(
        np.empty((0, 8, 16), np.float32), identity(8, 4), 0, implementation=implementation
    ).shape == (0, 8, 16)
    assert kernels.pack_panels(x, 16, implementation=implementation).shape == (0, 8, 16)
