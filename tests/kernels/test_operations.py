"""Every operation in every implementation available on this machine, compared with the definition in NumPy."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tilewright import kernels
from tilewright.kernels import OPERATIONS, Operation, reference

from .cases import FAST, Case, cases, guarded, intact

BUDGET = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
ENTRIES = ("linear", "linear_panels", "pack_panels", "unpack_panels")  # the others: test_network.py
PAIRS = [(o, i) for o in OPERATIONS if o.entry in ENTRIES for i in o.implementations if i in FAST]


def run(
    operation: Operation, implementation: str, case: Case, shift: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | float]:
    """Return (result, expected, allowed difference), after checking that nothing besides the output was written."""
    x, w, T = case.x, case.arrays, case.T
    M, panels = len(x), -(-len(x) // T)
    options = {"threads": case.threads, "implementation": implementation}
    shape = {
        "linear": (M, w.N),
        "linear_panels": (panels, w.N, T),
        "pack_panels": (panels, w.K, T),
        "unpack_panels": (M, w.K),
    }
    buffer, out = guarded(shape[operation.entry], shift)
    allowed: np.ndarray | float = 0.0
    if operation.entry.startswith("linear"):
        scale = reference.magnitude(x, w, case.bias)
        expected = reference.linear(x, w, case.bias, case.activation)
        allowed = operation.tolerance.relative * scale + 1e-30
    if operation.entry == "linear":
        got = kernels.linear_arrays(x, w, case.bias, case.activation, out=out, **options)
    elif operation.entry == "linear_panels":
        packed = reference.pack_panels(x, T)
        got = kernels.linear_panels(packed, w, M, case.bias, case.activation, out=out, **options)
        assert intact(buffer, out.shape, shift)
        return reference.unpack_panels(got, M), expected, allowed
    elif operation.entry == "pack_panels":
        got, expected = kernels.pack_panels(x, T, out=out, **options), reference.pack_panels(x, T)
    else:
        packed = reference.pack_panels(x, T)
        packed.reshape(-1)[packed.reshape(-1) == 0] = np.nan  # contents beyond the tokens must not matter
        got, expected = kernels.unpack_panels(packed, M, out=out, **options), np.where(x == 0, np.float32(np.nan), x)
    assert got is out
    assert intact(buffer, out.shape, shift)
    return got, expected, allowed


@pytest.mark.parametrize(("operation", "implementation"), PAIRS, ids=[f"{o.name}-{i}" for o, i in PAIRS])
def test_agrees_with_the_definition(operation: Operation, implementation: str) -> None:
    @BUDGET
    @given(cases(operation.name), st.integers(0, 3))
    def check(case: Case, shift: int) -> None:
        got, expected, allowed = run(operation, implementation, case, shift)
        assert kernels.last_implementation() == implementation
        assert got.shape == expected.shape
        assert got.dtype == np.float32
        wrong = ~(np.abs(got - expected) <= allowed) & ~(np.isnan(got) & np.isnan(expected))
        assert not wrong.any(), f"{wrong.sum()} of {wrong.size} wrong, first at {np.argwhere(wrong)[0]}"

    check()


def test_every_operation_is_reached_by_its_entry() -> None:
    assert {o.entry for o in OPERATIONS} <= set(kernels.__all__)
    assert all(o.implementations[-1] == "reference" for o in OPERATIONS)
    assert len({o.name for o in OPERATIONS}) == len(OPERATIONS)
