"""Which arguments are rejected, and with which messages. Nothing here may reach the C++ code."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tilewright import NM, kernels
from tilewright.errors import ArgumentError, FormatError, quoted
from tilewright.formats import pack
from tilewright.kernels import KernelArrays
from tilewright.kernels.dispatch import native


def weight(N: int = 3, K: int = 8) -> KernelArrays:
    rng = np.random.default_rng(0)
    dense = rng.standard_normal((N, K)).astype(np.float32)
    from tilewright.patterns import mask

    pattern = NM(2, 4)
    return KernelArrays.of(pack(dense * mask(pattern, np.abs(dense)), pattern))


X = np.ones((2, 8), dtype=np.float32)
OVERLAP = np.zeros(100, dtype=np.float32)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda w: kernels.linear_arrays([[1.0]], w), r"x must be a NumPy array \[M, K\], got list"),
        (lambda w: kernels.linear_arrays(X.astype(np.float64), w), r"x must be float32, got float64; convert it"),
        (
            lambda w: kernels.linear_arrays(X[:, :7].copy(), w),
            r"x must have shape \[M, K\] = \[any, 8\], got \[2, 7\]",
        ),
        (lambda w: kernels.linear_arrays(X[0], w), r"x must have shape \[M, K\] = \[any, 8\], got \[8\]"),
        (
            lambda w: kernels.linear_arrays(np.ones((8, 2), np.float32).T, w),
            r"x must be C-contiguous; pass numpy.ascontiguousarray",
        ),
        (
            lambda w: kernels.linear_arrays(X, w, np.ones(4, np.float32)),
            r"bias must have shape \[N\] = \[3\], got \[4\]",
        ),
        (lambda w: kernels.linear_arrays(X, w, np.ones(3)), r"bias must be float32, got float64"),
        (
            lambda w: kernels.linear_arrays(X, w, out=np.ones((2, 4), np.float32)),
            r"out must have shape \[M, N\] = \[2, 3\]",
        ),
        (lambda w: kernels.linear_arrays(X, w, out=np.ones((3, 2), np.float32).T), r"out must be C-contiguous"),
        (
            lambda w: kernels.linear_arrays(OVERLAP[:16].reshape(2, 8), w, out=OVERLAP[15:21].reshape(2, 3)),
            r"out must not share memory with x; pass another array",
        ),
        (
            lambda w: kernels.linear_arrays(X, w, OVERLAP[:3], out=OVERLAP[2:8].reshape(2, 3)),
            r"out must not share memory with bias",
        ),
        (
            lambda w: kernels.linear_arrays(X, w, activation="swish"),
            r"unknown activation 'swish'; expected one of none, relu, gelu, gelu_tanh",
        ),
        (
            lambda w: kernels.linear_arrays(X, w, threads=0),
            r"threads must be an integer from 1 to 1,024, got 0",
        ),
        (
            lambda w: kernels.linear_arrays(X, w, threads=1.5),
            r"threads must be an integer from 1 to 1,024, got 1.5",
        ),
        (lambda w: kernels.pack_panels(X, 24), r"T must be a positive multiple of 16, the tokens of a panel; got 24"),
        (lambda w: kernels.pack_panels(X, 0), r"T must be a positive multiple of 16, the tokens of a panel; got 0"),
        (
            lambda w: kernels.linear_panels(np.ones((2, 8, 16), np.float32), w, 16),
            r"2 panels of 16 tokens hold 17 to 32 tokens, got 16",
        ),
        (
            lambda w: kernels.unpack_panels(np.ones((1, 8, 16), np.float32), 17),
            r"1 panels of 16 tokens hold 1 to 16 tokens",
        ),
        (
            lambda w: kernels.linear_panels(np.ones((1, 7, 16), np.float32), w, 16),
            r"x must have shape \[panel, K, T\] = \[any, 8, any\]",
        ),
    ],
)
def test_bad_arguments_are_refused_in_words(call: Callable[[KernelArrays], Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        call(weight())


def test_a_read_only_output_is_refused() -> None:
    out = np.ones((2, 3), np.float32)
    out.flags.writeable = False
    with pytest.raises(ArgumentError, match="out must be writeable, but is read-only"):
        kernels.linear_arrays(X, weight(), out=out)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"columns": np.array([0, 1, 4, 9] * 3, np.uint16)}, "columns must be in 0 to 7, but one is 9"),
        ({"pointers": np.array([0, 8, 4, 12])}, "pointers must be 4 numbers that ascend from 0 to 12"),
        ({"pointers": np.array([0, 4, 12])}, "pointers must be 4 numbers that ascend from 0 to 12"),
        ({"pointers": np.array([1, 4, 8, 12])}, "pointers must be 4 numbers that ascend from 0 to 12"),
        ({"values": np.ones(11, np.float32)}, "do not match each other: values do not fit the pointers"),
        ({"values": np.ones(12, np.float64)}, "do not match each other"),
        (
            {"columns": np.array([0, 1, 4, 5] * 3, np.int64)},
            "do not match each other: columns must be uint16 or uint32",
        ),
        ({"m": 8, "n": 3}, "columns do not fit n:m"),
        ({"rows": np.array([0, 2, 1], np.int32)}, "rows must ascend strictly within 0 to 2"),
        ({"rows": np.array([0, 1, 3], np.int32)}, "rows must ascend strictly within 0 to 2"),
    ],
)
def test_arrays_that_break_the_layout_are_refused(change: dict[str, Any], words: str) -> None:
    good = weight()
    parts = {name: getattr(good, name) for name in KernelArrays.__dataclass_fields__} | {"n": 0, "m": 0}
    with pytest.raises(FormatError, match=words):
        KernelArrays(**(parts | change)).validate()


def test_the_extension_checks_lengths_by_itself() -> None:
    w, module = weight(), native()
    with pytest.raises(ValueError, match="x and out do not fit the weight"):
        module.linear("generic", w.native, X[:, :7].copy(), np.ones((2, 3), np.float32), None, 0, 1)
    with pytest.raises(ValueError, match="bias does not fit the outputs"):
        module.linear("generic", w.native, X, np.ones((2, 3), np.float32), np.ones(2, np.float32), 0, 1)
    with pytest.raises(ValueError, match="unknown activation code"):
        module.linear("generic", w.native, X, np.ones((2, 3), np.float32), None, 6, 1)
    with pytest.raises(ValueError, match="no implementation 'sse9'"):
        module.linear("sse9", w.native, X, np.ones((2, 3), np.float32), None, 0, 1)
    with pytest.raises(ValueError, match="panels do not fit the tokens"):
        module.linear_panels(
            "generic", w.native, np.ones((2, 8, 16), np.float32), np.ones((2, 3, 16), np.float32), 8, None, 0, 1
        )


@pytest.mark.parametrize(
    "threads", [-1, 0, 1025, 2**31, 2**40, 2**63, 2**64, 10**5000, True, None, "2"], ids=lambda t: quoted(t)[:12]
)
@pytest.mark.parametrize("verb", ["linear_arrays", "linear_panels"])
def test_as_many_threads_as_no_processor_has_are_refused_at_once(verb, threads):
    """Dividing the work among 2**31 threads took eleven seconds, and among 2**40 it never ended."""
    arguments = (X, weight()) if verb == "linear_arrays" else (np.ones((1, 8, 16), np.float32), weight(), 2)
    with pytest.raises(ArgumentError, match="threads must be an integer from 1 to 1,024, got"):
        getattr(kernels, verb)(*arguments, threads=threads)


def test_as_many_threads_as_may_be_are_taken():
    np.testing.assert_allclose(
        kernels.linear_arrays(X, weight(), threads=1024), kernels.linear_arrays(X, weight(), threads=1), rtol=1e-5
    )
