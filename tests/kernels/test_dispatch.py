"""Implementations can be listed and forced, and the code that ran reports which one it was."""

import subprocess
import sys
import threading

import numpy as np
import pytest

from tilewright import kernels
from tilewright.errors import NotSupportedError
from tilewright.kernels import Implementation, KernelArrays, dispatch

from .cases import FAST

W = KernelArrays(2, 3, 2, np.arange(4, dtype=np.float32), np.array([0, 2], np.uint16), np.array([0, 2], np.int64))
X = np.ones((1, 3), np.float32)


def test_the_list_is_best_first_and_ends_with_the_definition() -> None:
    assert [i.name for i in kernels.implementations()] == ["avx512", "avx2", "generic", "reference"]
    assert [i.available for i in kernels.implementations()][-2:] == [True, True]
    assert all(i.available or i.reason for i in kernels.implementations())


@pytest.mark.parametrize("name", [*FAST, "reference"])
def test_the_forced_implementation_is_the_one_that_ran(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [[4.0 - 2.0, 4.0]]
    assert kernels.linear_arrays(X, W, implementation=name).tolist() == expected
    assert kernels.last_implementation() == name
    kernels.linear_arrays(X, W, implementation="reference")
    monkeypatch.setenv("TILEWRIGHT_KERNEL", name)
    assert kernels.linear_arrays(X, W).tolist() == expected
    assert kernels.last_implementation() == name


def test_the_extension_names_the_bodies_that_ran_not_the_request() -> None:
    for name in FAST:
        assert dispatch.native().linear(name, W.native, X, np.empty((1, 2), np.float32), None, 0, 1) == name


def test_the_argument_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_KERNEL", "nonsense")
    kernels.linear_arrays(X, W, implementation="generic")
    assert kernels.last_implementation() == "generic"


def test_the_best_available_runs_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TILEWRIGHT_KERNEL", raising=False)
    kernels.linear_arrays(X, W)
    assert kernels.last_implementation() == FAST[0]


def test_unknown_names_are_refused_and_the_choice_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        NotSupportedError, match=r"unknown kernel implementation 'sse9'; available here: .*generic, reference"
    ):
        kernels.linear_arrays(X, W, implementation="sse9")
    monkeypatch.setenv("TILEWRIGHT_KERNEL", "sse9")
    with pytest.raises(NotSupportedError, match=r"'sse9' \(from the environment variable TILEWRIGHT_KERNEL\)"):
        kernels.linear_arrays(X, W)


def test_an_unavailable_implementation_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = (
        Implementation("avx512", ("avx512f",), False, "this CPU lacks one of avx512f"),
        kernels.implementations()[-1],
    )
    monkeypatch.setattr(dispatch, "implementations", lambda: listed)
    with pytest.raises(
        NotSupportedError, match="'avx512' cannot run here: this CPU lacks one of avx512f; available here: reference"
    ):
        kernels.linear_arrays(X, W, implementation="avx512")


def test_without_the_extension_the_slow_definition_runs_only_when_asked_for() -> None:
    program = """
import sys
sys.modules["tilewright.kernels._native"] = None
import numpy as np
from tilewright import kernels
from tilewright.errors import NotSupportedError
w = kernels.KernelArrays(1, 1, 1, np.ones(1, np.float32), np.zeros(1, np.uint16), np.array([0, 1]))
x = np.ones((1, 1), np.float32)
assert [i.name for i in kernels.implementations() if i.available] == ["reference"]
assert kernels.linear_arrays(x, w, implementation="reference").item() == 1
try:
    kernels.linear_arrays(x, w)
except NotSupportedError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "the compiled kernels are not installed; install tilewright with a C++20 compiler" in ran.stdout


def test_what_ran_is_remembered_for_each_thread() -> None:
    kernels.linear_arrays(X, W, implementation="reference")
    seen: list[str | None] = []
    thread = threading.Thread(target=lambda: seen.append(kernels.last_implementation()))
    thread.start()
    thread.join()
    assert seen == [None]
    assert kernels.last_implementation() == "reference"


def test_the_kernels_wake_no_framework() -> None:
    program = "import sys, tilewright.kernels as k; k.implementations(); print({'torch', 'safetensors', 'scipy'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
