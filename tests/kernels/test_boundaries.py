"""Both sides of every threshold in this room's Python code, and its defaults."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tilewright import kernels
from tilewright.errors import ArgumentError, FormatError, NotSupportedError
from tilewright.formats import Packed, pack
from tilewright.kernels import ACTIVATIONS, OPERATIONS, KernelArrays, dispatch, operation_of, reference
from tilewright.kernels.cpu.checking import aligned
from tilewright.kernels.table import activation_code
from tilewright.patterns import NM, mask, parse

from ..frozen import check_value, values_of
from .cases import FAST


@pytest.mark.parametrize("kind", values_of("tilewright.kernels"), ids=lambda kind: kind.__name__)
def test_values_are_frozen(kind: type) -> None:
    check_value(kind)


def weight(tile: int = 1, N: int = 4, K: int = 6, m: int = 0) -> KernelArrays:
    """Keep the first two inputs of every output."""
    tiles = -(-N // tile)
    pointers = 2 * np.arange(tiles + 1, dtype=np.int64)
    columns = np.tile(np.array([0, 1], np.uint16), tiles)
    return KernelArrays(N, K, tile, np.ones(2 * N, np.float32), columns, pointers, n=2 if m else 0, m=m)


@pytest.mark.parametrize(("tile", "few"), [(1, 1), (2, 4), (3, 4), (7, 4), (8, 8), (9, 8), (16, 8)])
def test_few_tokens_go_through_the_small_operation_and_one_more_does_not(tile: int, few: int) -> None:
    arrays = weight(tile, N=16)
    assert [operation_of(arrays, tokens).name for tokens in (0, 1, few)] == ["small"] * 3
    assert operation_of(arrays, few + 1).name == ("rows" if tile == 1 else "tiles")
    assert operation_of(weight(m=6, K=6), 2).name == "nm"


def test_activations_are_numbered_in_their_order() -> None:
    assert [activation_code(name) for name in ACTIVATIONS] == [0, 1, 2, 3, 4, 5]


def test_sums_have_a_tolerance_and_moves_have_none() -> None:
    assert {o.name: o.tolerance.relative for o in OPERATIONS} == {
        **dict.fromkeys(("tiles", "nm", "rows", "small", "panels", "pool"), 3e-6),
        "norm": 2e-6,
        "attention": 4e-6,
        "embed": 3e-7,
        "pack": 0,
        "unpack": 0,
    }


def test_options_are_named() -> None:
    packed = pack(np.eye(4, dtype=np.float32), parse("1:4"))
    x = np.ones((2, 4), np.float32)
    assert kernels.linear(x=x, packed=packed, bias=None, activation="relu", threads=2).tolist() == [[1] * 4] * 2
    with pytest.raises(TypeError):
        kernels.linear(x, packed, None, "relu", 2)


@pytest.mark.parametrize(
    "call", sorted({getattr(kernels, o.entry) for o in OPERATIONS} | {kernels.linear_arrays}, key=lambda f: f.__name__)
)
def test_one_thread_runs_by_default(call: Callable[..., Any]) -> None:
    assert inspect.signature(call).parameters["threads"].default == 1


def test_the_peak_is_taken_over_a_fifth_of_a_second_by_default() -> None:
    assert inspect.signature(kernels.fma_peak).parameters["seconds"].default == 0.2


X, PANELS = np.ones((2, 6), np.float32), np.ones((1, 6, 16), np.float32)


@pytest.mark.parametrize("name", ["reference", *FAST])
@pytest.mark.parametrize(
    ("entry", "call"),
    [
        ("linear", lambda name: kernels.linear_arrays(X, weight(), implementation=name)),
        ("linear_panels", lambda name: kernels.linear_panels(PANELS, weight(), 2, implementation=name)),
        ("pack_panels", lambda name: kernels.pack_panels(X, 16, implementation=name)),
        ("unpack_panels", lambda name: kernels.unpack_panels(PANELS, 2, implementation=name)),
    ],
)
def test_the_definition_runs_where_it_is_asked_for_and_nowhere_else(
    name: str, entry: str, call: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    definition = getattr(reference, entry)
    monkeypatch.setattr(reference, entry, lambda *arguments: (calls.append(entry), definition(*arguments))[1])
    call(name)
    assert calls == [entry] * (name == "reference")
    assert kernels.last_implementation() == name


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 3, 16), (1000, 7)])
def test_outputs_start_on_a_cache_line(shape: tuple[int, ...]) -> None:
    for _ in range(9):
        array = aligned(shape)
        assert array.shape == shape
        assert array.ctypes.data % 64 == 0
        array[...] = 1.0  # all of it is there


@pytest.mark.parametrize("T", [16, 32, 48])
def test_panels_hold_from_one_token_more_than_the_panels_before(T: int) -> None:
    for panels in (1, 2, 3):
        x = np.zeros((panels, 6, T), np.float32)
        least, most = (panels - 1) * T + 1, panels * T
        for tokens in (least, most):
            assert kernels.linear_panels(x, weight(), tokens).shape == (panels, 4, T)
            assert kernels.unpack_panels(x, tokens).shape == (tokens, 6)
        for tokens in (least - 1, most + 1):
            with pytest.raises(
                ArgumentError,
                match=f"{panels} panels of {T} tokens hold {least} to {most} tokens, got {tokens}",
            ):
                kernels.linear_panels(x, weight(), tokens)
            with pytest.raises(ArgumentError, match=f"hold {least} to {most} tokens"):
                kernels.unpack_panels(x, tokens)
    empty = np.zeros((0, 6, T), np.float32)
    assert kernels.unpack_panels(empty, 0).shape == (0, 6)
    for tokens in (-1, 1):
        with pytest.raises(ArgumentError, match="0 panels of"):
            kernels.unpack_panels(empty, tokens)


@pytest.mark.parametrize("T", [-16, 0, 1, 15, 17])
def test_panels_are_multiples_of_sixteen_tokens(T: int) -> None:
    with pytest.raises(ArgumentError, match=f"T must be a positive multiple of 16, the tokens of a panel; got {T}"):
        kernels.pack_panels(np.zeros((3, 6), np.float32), T)


@pytest.mark.parametrize("tokens", [0, 1, 15, 16, 17, 32, 33])
def test_as_many_panels_as_the_tokens_fill(tokens: int) -> None:
    x = np.arange(tokens * 3, dtype=np.float32).reshape(tokens, 3)
    panels = kernels.pack_panels(x, 16)
    assert panels.shape == (math.ceil(tokens / 16), 3, 16)
    assert (kernels.unpack_panels(panels, tokens) == x).all()


def test_one_axis_of_any_length_is_offered_as_such() -> None:
    with pytest.raises(ArgumentError, match=r"x must have shape \[M, K\] = \[any, 6\], got \[2, 7\]"):
        kernels.linear_arrays(np.zeros((2, 7), np.float32), weight())
    with pytest.raises(ArgumentError, match=r"= \[any, any\], got \[2, 3, 4\]"):
        kernels.pack_panels(np.zeros((2, 3, 4), np.float32), 16)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rows": np.array([0, 1, 2, 4], np.int32)}, "rows must ascend strictly within 0 to 3"),
        ({"rows": np.array([-1, 1, 2, 3], np.int32)}, "rows must ascend strictly within 0 to 3"),
        ({"rows": np.array([0, 1, 1, 3], np.int32)}, "rows must ascend strictly within 0 to 3"),
        ({"columns": np.array([0, 6] * 4, np.uint16)}, "columns must be in 0 to 5, but one is 6"),
        ({"pointers": np.array([0, 2, 4, 6, 7])}, "pointers must be 5 numbers that ascend from 0 to 8"),
        ({"pointers": np.array([0, 2, 4, 8])}, "pointers must be 5 numbers that ascend from 0 to 8"),
        ({"pointers": np.array([0, 4, 2, 6, 8])}, "pointers must be 5 numbers"),
    ],
)
def test_layouts_just_outside_are_refused(change: dict[str, Any], words: str) -> None:
    good = weight()
    fields = {name: getattr(good, name) for name in KernelArrays.__dataclass_fields__}
    KernelArrays(
        **(fields | {"rows": np.arange(4, dtype=np.int32), "columns": np.array([0, 5] * 4, np.uint16)})
    ).validate()
    with pytest.raises(FormatError, match=words):
        KernelArrays(**(fields | change)).validate()


def test_residuals_are_held_to_the_same_layout_by_their_own_name() -> None:
    good = weight()
    fields = {name: getattr(good, name) for name in KernelArrays.__dataclass_fields__}
    extra = {
        "residual_values": np.ones(4, np.float32),
        "residual_columns": np.array([5, 5, 5, 5], np.uint16),
        "residual_pointers": np.arange(5, dtype=np.int64),
    }
    whole = KernelArrays(**(fields | extra))
    whole.validate()
    assert (whole.kept, good.kept, whole.stored) == (12, 8, 4)
    for names in (extra.keys() - {name} for name in extra):
        for part in (names, sorted(names)[:1]):
            with pytest.raises(FormatError, match="a residual needs values, columns and pointers"):
                KernelArrays(**(fields | {name: extra[name] for name in part})).validate()
    bad = fields | extra | {"residual_columns": np.array([5, 5, 5, 6], np.uint16)}
    with pytest.raises(FormatError, match="residual columns must be in 0 to 5, but one is 6"):
        KernelArrays(**bad).validate()


@pytest.mark.parametrize(
    ("text", "K", "expected"),
    [
        ("2:4", 32, (2, 4)), ("2:4", 30, (2, 4)), ("2:4", 29, (2, 4)), ("3:8", 33, (3, 8)), ("1:4", 3, (1, 4)),
        ("4:4", 8, (4, 4)), ("2:4x2", 32, (0, 0)), ("tw1@50%", 32, (0, 0)),
    ],
)  # fmt: skip
def test_weights_that_are_full_in_every_group_are_known(text: str, K: int, expected: tuple[int, int]) -> None:
    pattern = parse(text)
    scores = np.random.default_rng(0).random((6, K)).astype(np.float32) + 0.1
    kept = mask(pattern, scores)
    arrays = KernelArrays.of(pack(np.where(kept, scores, 0).astype(np.float32), pattern, kept))
    assert (arrays.n, arrays.m) == expected


@pytest.mark.parametrize(
    ("columns", "pointers", "expected"),
    [
        ([0, 1, 4, 5, 2, 3, 6, 7], [0, 4, 8], (2, 4)),
        (
            [0, 1, 2, 4, 2, 3, 6, 7],
            [0, 4, 8],
            (0, 0),
        ),  # the same number in the row, but three in one group and one in the next
        ([0, 1, 4, 5, 2, 3, 6], [0, 4, 7], (0, 0)),
        ([0, 1, 4, 5, 2], [0, 4, 5], (0, 0)),
        ([], [0, 0, 0], (0, 0)),
    ],
)
def test_files_may_hold_rows_that_are_not_full(
    columns: list[int], pointers: list[int], expected: tuple[int, int]
) -> None:
    values = np.arange(1, len(columns) + 1, dtype=np.float32)
    packed = Packed(NM(2, 4), (2, 8), "float32", 1, values, np.array(columns, np.uint16), np.array(pointers))
    arrays = KernelArrays.of(packed)
    assert (arrays.n, arrays.m) == expected
    x = np.random.default_rng(0).random((5, 8), dtype=np.float32)
    np.testing.assert_allclose(kernels.linear_arrays(x, arrays), x @ packed.unpack().T, rtol=1e-5)


def test_bfloat16_values_are_the_upper_halves_of_floats() -> None:
    bits = np.array([[0x3F80, 0xC040, 0, 0]], dtype=np.uint16)  # 1 and -3
    packed = pack(bits, parse("2:4"), bits != 0, dtype="bfloat16")
    assert KernelArrays.of(packed).values.tolist() == [1.0, -3.0]


def described(**changes: Any) -> dispatch.Implementation:
    return dispatch._described({"name": "avx9", "needs": "one two", "available": False, "built": True} | changes)


def test_an_implementation_that_cannot_run_says_whether_cpu_or_build_is_the_reason() -> None:
    assert described() == dispatch.Implementation("avx9", ("one", "two"), False, "this CPU lacks one of one, two")
    assert described(built=False).reason == "it is not part of this build"
    assert described(available=True) == dispatch.Implementation("avx9", ("one", "two"), True, "")


def test_without_the_extension_nothing_compiled_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "native", lambda: None)
    listed = dispatch.implementations.__wrapped__()
    assert [(i.name, i.available, bool(i.reason)) for i in listed] == [
        ("avx512", False, True), ("avx2", False, True), ("generic", False, True), ("reference", True, False),
    ]  # fmt: skip
    monkeypatch.setattr(dispatch, "implementations", lambda: listed)
    with pytest.raises(NotSupportedError, match="the compiled kernels are not installed"):
        dispatch._best.__wrapped__()
