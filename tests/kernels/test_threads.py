"""Threads affect only time: results are bit-identical, also from many Python threads at once and in forked children."""

import os
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from tilewright import kernels

from .cases import FAST, Case, cases


@pytest.mark.parametrize("operation", ["tiles", "nm", "rows", "small"])
def test_any_number_of_threads_gives_the_same_bits(operation: str) -> None:
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(cases(operation))
    def check(case: Case) -> None:
        one = kernels.linear_arrays(case.x, case.arrays, case.bias, case.activation, threads=1)
        for threads in (2, 3, 7):
            more = kernels.linear_arrays(case.x, case.arrays, case.bias, case.activation, threads=threads)
            assert one.tobytes() == more.tobytes()

    check()


def _weight(N: int, K: int, tile: int, kept: int, seed: int) -> kernels.KernelArrays:
    rng = np.random.default_rng(seed)
    tiles = -(-N // tile)
    columns = np.concatenate([np.sort(rng.permutation(K)[:kept]) for _ in range(tiles)]).astype(np.uint16)
    pointers = np.arange(tiles + 1, dtype=np.int64) * kept
    return kernels.KernelArrays(N, K, tile, rng.standard_normal(N * kept, dtype=np.float32), columns, pointers)


@pytest.mark.parametrize("implementation", FAST)
def test_many_python_threads_at_once_each_get_their_own_result(implementation: str) -> None:
    jobs = [(_weight(96, 64 + 8 * i, 8, 20, i), np.random.default_rng(i)) for i in range(6)]
    calls = [(w, rng.standard_normal((37 + i, w.K), dtype=np.float32)) for i, (w, rng) in enumerate(jobs)]
    expected = [kernels.linear_arrays(x, w, implementation="reference") for w, x in calls]
    wrong: list[int] = []

    def work(i: int) -> None:
        w, x = calls[i]
        for _ in range(30):
            got = kernels.linear_arrays(x, w, threads=1 + i % 3, implementation=implementation)
            if not np.allclose(got, expected[i], rtol=1e-4, atol=1e-4):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_threads_are_borrowed_from_a_loaded_openmp_and_not_after_a_fork() -> None:
    program = """
import ctypes, os, sys
import numpy as np
from tilewright.kernels import KernelArrays, linear_arrays
kept = np.arange(64, dtype=np.uint16)
w = KernelArrays(256, 64, 8, np.ones(256 * 64, np.float32), np.tile(kept, 32), np.arange(33, dtype=np.int64) * 64)
x = np.ones((64, 64), np.float32)
def threads():
    return len(os.listdir("/proc/self/task"))
def right():
    return bool((linear_arrays(x, w, threads=3) == 64).all())
before = threads()
if "openmp" in sys.argv:
    ctypes.CDLL("libgomp.so.1").omp_set_dynamic(0)
assert right()
print(threads() - before)
child = os.fork()
if child == 0:
    os._exit(0 if right() else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    for arguments in ([], ["openmp"]):
        ran = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True, timeout=60
        )
        assert ran.stdout.split() == ["2", "0"]


def test_a_forked_child_computes_with_threads_of_its_own() -> None:
    w, x = _weight(96, 64, 8, 20, 1), np.ones((64, 64), np.float32)
    expected = kernels.linear_arrays(x, w, threads=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads alive is what is tested
        child = os.fork()
    if child == 0:
        same = kernels.linear_arrays(x, w, threads=2).tobytes() == expected.tobytes()
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
