"""Check whether our thread pool and torch's compete for the same cores: wall time of alternating calls, two threads each."""

import argparse
import os
import statistics
import time
from collections.abc import Sequence

import numpy as np
from _peers import Call, aligned, torch_linear

from tilewright import kernels
from tilewright.kernels import KernelArrays, reference
from tilewright.records import Record, write_record


def wall(calls: Sequence[Call], rounds: int) -> list[list[float]]:
    """Return samples of each call in seconds, with the calls taking turns."""
    samples: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call()
            samples[i].append(time.perf_counter() - start)
    return samples


def bench_beside_torch(w: KernelArrays, M: int, seed: int, options: argparse.Namespace) -> None:
    """Time our kernel alone with 1 and 2 threads, torch alone with 2, and both in turns; write records and print times."""
    rng = np.random.default_rng(seed)
    x, bias = aligned(rng.standard_normal((M, w.K), dtype=np.float32)), np.zeros(w.N, np.float32)
    dense = torch_linear(x, rng.standard_normal((w.N, w.K), dtype=np.float32), bias, copies=1, threads=2)
    out = aligned(np.zeros((M, w.N), np.float32))

    def ours(threads: int) -> Call:
        return lambda: kernels.linear_arrays(x, w, bias, threads=threads, out=out)

    error = float(np.abs(ours(2)() - reference.linear(x, w, bias, "none")).max())
    if not error < 1e-3:
        raise SystemExit(f"two threads: wrong result, off by {error:.3g}; nothing is timed")
    # Real-time scheduling keeps other programs off the cores; under the normal policy, load on the machine distorts the times.
    policy = "normal" if os.sched_getscheduler(0) == os.SCHED_OTHER else "real-time"
    rounds = 40 if options.quick else 200
    cases = {"ours, 1 thread": wall([ours(1)], rounds)[0], "ours, 2 threads": wall([ours(2)], rounds)[0]}
    cases["torch, 2 threads"] = wall([dense], rounds)[0]
    for threads in (1, 2):
        mixed = wall([ours(threads), dense], rounds)
        cases[f"ours, {threads} threads, in turn with torch"] = mixed[0]
        cases[f"torch, in turn with ours on {threads} threads"] = mixed[1]
    print(f"\nthreads, {M}x{w.N}x{w.K}, tile {w.tile}, wall time, {policy} scheduling")
    for name, samples in cases.items():
        print(f"  {name:<40}{statistics.median(samples) * 1e6:>8.0f} us")
        inputs = {"M": M, "N": w.N, "K": w.K, "tile": w.tile, "case": name, "clock": "wall", "policy": policy}
        write_record(
            options.records,
            Record.measure("kernel-threads", f"{M}x{w.N}x{w.K}", samples, "s", inputs=inputs, seed=seed, checked=True),
        )
