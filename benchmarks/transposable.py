"""How far transposable masks are from optimal, and how long they take on one core.

Run as ``python benchmarks/transposable.py [--quick]``; prints a table and writes ``benchmarks/records/transposable.jsonl``. The gap of a block is
``1 - kept / best``, where the best comes from a linear program (SciPy's HiGHS). The gap of the greedy mask on the raw scores, from which the
search starts, is listed next to it. Times are for one 1024 x 1024 float32 weight; each mask is verified before its time is recorded.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from pathlib import Path

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array, identity, kron, vstack

from tilewright.patterns import NM, mask, parse, transposable, verify_mask
from tilewright.records import Record, write_record

PATTERNS = ["2:8t", "4:8t", "8:16t", "16:32t", "4:32t", "32:64t"]
DRAWS = {
    "normal": lambda rng, shape: np.abs(rng.standard_normal(shape, dtype=np.float32)),
    "uniform": lambda rng, shape: rng.random(shape, dtype=np.float32),
}
SIDE = 1024
RECORDS = Path(__file__).parent / "records" / "transposable.jsonl"


def blocks_of(array: np.ndarray, m: int) -> np.ndarray:
    """Return the m x m blocks of a matrix, flattened, ``[blocks, m * m]``."""
    rows, columns = array.shape
    return array.reshape(rows // m, m, columns // m, m).swapaxes(1, 2).reshape(-1, m * m)


def best_sum(block: np.ndarray, pattern: NM) -> float:
    """Return the largest sum that any valid mask keeps of a flat block."""
    m, ones = pattern.m, csr_array(np.ones((1, pattern.m)))
    sums = csr_array(vstack([kron(identity(m), ones), kron(ones, identity(m))]))
    solution = linprog(-block, A_eq=sums, b_eq=np.full(2 * m, float(pattern.n)), bounds=(0, 1), method="highs")
    assert solution.status == 0, solution.message
    return -float(solution.fun)


def gaps(pattern: NM, draw: str, count: int) -> tuple[list[float], list[float]]:
    """Return the gaps of our masks and of greedy masks on seeded random blocks."""
    m = pattern.m
    scores = DRAWS[draw](np.random.default_rng(1), (m, count * m))
    flat = blocks_of(scores, m)
    best = [best_sum(block.astype(np.float64), pattern) for block in flat]
    masks = blocks_of(mask(pattern, scores), m), transposable._greedy(flat, pattern.n, m)
    ours, greedy = (
        [1 - float(b[k].sum(dtype=np.float64)) / s for b, k, s in zip(flat, kept, best, strict=True)] for kept in masks
    )
    return ours, greedy


def seconds(pattern: NM, draw: str, rounds: int) -> list[float]:
    """Return the times for one weight in seconds, after verifying its mask."""
    scores = DRAWS[draw](np.random.default_rng(0), (SIDE, SIDE))
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        kept = mask(pattern, scores)
        times.append(time.perf_counter() - start)
    verdict = verify_mask(pattern, kept, exact=True)
    assert verdict, verdict.message
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="blocks up to 16, fewer of them")
    quick = parser.parse_args().quick
    if not quick:
        RECORDS.parent.mkdir(exist_ok=True)
        RECORDS.unlink(missing_ok=True)
    print(
        f"{'pattern':<9}{'scores':<9}{'mean gap':>10}{'worst gap':>11}{'greedy mean':>13}{'greedy worst':>14}{'seconds':>9}"
    )
    for text in PATTERNS[:3] if quick else PATTERNS:
        pattern = parse(text)
        assert isinstance(pattern, NM)
        for draw in DRAWS:
            count = (20 if quick else 2000) * 64 // pattern.m**2 or 1
            ours, greedy = gaps(pattern, draw, max(count, 20))
            times = seconds(pattern, draw, 1 if quick else 3)
            extra = {"mean": float(np.mean(ours)), "greedy_mean": float(np.mean(greedy)), "greedy_max": max(greedy)}
            inputs = {"scores": draw, "threads": 1}
            if not quick:
                blocks = {**inputs, "blocks": len(ours)}
                record = Record.measure(
                    "mask gap", text, ours, "ratio", inputs=blocks, seed=1, checked=True, extra=extra
                )
                write_record(RECORDS, record)
                weight = {**inputs, "shape": [SIDE, SIDE]}
                write_record(RECORDS, Record.measure("mask", text, times, "s", inputs=weight, seed=0, checked=True))
            print(
                f"{text:<9}{draw:<9}{extra['mean']:>10.1e}{max(ours):>11.1e}{extra['greedy_mean']:>13.2%}"
                f"{extra['greedy_max']:>14.2%}{min(times):>9.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
