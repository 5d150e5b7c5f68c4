"""Packed weights of every pattern in the kernels, compared with the plain dense product and thus independent of the reference."""

import copy
import pickle

import numpy as np
import pytest

from tilewright import kernels
from tilewright.errors import NotSupportedError
from tilewright.formats import pack
from tilewright.kernels import KernelArrays
from tilewright.patterns import mask, parse

PATTERNS = [
    "2:4", "1:4", "2:64", "3:65", "2:4x8", "1:8x4", "2:4t", "bank64@16x", "tw8@75%", "tw16@50%", "tew8@75%+5%", "tvw16@75%",
    "tvw16@80%:1:4", "block8x4@75%", "any@90%",
]  # fmt: skip


def packed_weight(text: str, N: int, K: int):
    pattern = parse(text)
    dense = np.random.default_rng(N * K).standard_normal((N, K)).astype(np.float32)
    kept = mask(pattern, np.abs(dense))
    dense *= kept
    return pack(dense, pattern, kept), dense


@pytest.mark.parametrize("text", PATTERNS)
@pytest.mark.parametrize(("M", "N", "K"), [(37, 48, 144), (3, 40, 100), (1, 48, 128)])
def test_every_pattern_multiplies_like_its_dense_weight(text: str, M: int, N: int, K: int) -> None:
    if text.endswith("t"):
        K -= K % 4
    packed, dense = packed_weight(text, N, K)
    rng = np.random.default_rng(1)
    x, bias = rng.standard_normal((M, K), dtype=np.float32), rng.standard_normal(N, dtype=np.float32)
    np.testing.assert_allclose(kernels.linear(x, packed, bias), x @ dense.T + bias, rtol=1e-4, atol=1e-4)


def test_full_nm_weights_take_the_blocked_way_and_others_do_not() -> None:
    assert (KernelArrays.of(packed_weight("2:4", 8, 30)[0]).n, KernelArrays.of(packed_weight("2:4", 8, 30)[0]).m) == (
        2,
        4,
    )
    assert KernelArrays.of(packed_weight("any@50%", 8, 32)[0]).m == 0
    assert KernelArrays.of(packed_weight("2:4x4", 8, 32)[0]).m == 0


def test_float32_values_are_shared_and_halves_are_widened() -> None:
    packed, dense = packed_weight("2:4", 8, 32)
    assert np.shares_memory(KernelArrays.of(packed).values, packed.values)
    half = pack(dense.astype(np.float16), parse("2:4"))
    assert half.dtype == "float16"
    np.testing.assert_array_equal(KernelArrays.of(half).values, half.values.astype(np.float32))


def test_arrays_can_be_copied_and_pickled_after_use() -> None:
    packed, _ = packed_weight("tew8@75%+5%", 24, 40)
    arrays, x = KernelArrays.of(packed), np.ones((9, 40), np.float32)
    expected = kernels.linear_arrays(x, arrays)
    for other in (copy.deepcopy(arrays), pickle.loads(pickle.dumps(arrays))):
        assert kernels.linear_arrays(x, other).tobytes() == expected.tobytes()


def test_the_peak_loop_belongs_to_compiled_code() -> None:
    assert kernels.fma_peak(0.001, "generic") > 0
    with pytest.raises(NotSupportedError, match="the reference implementation has no register loop"):
        kernels.fma_peak(0.001, "reference")
