"""The CPU kernels against the best dense library: one thread each, checked before they are timed, taking turns in one process.

    python benchmarks/kernels.py [--quick] [--only tokens|few|weights|threads] [--records FILE]

Every call uses the next of several copies of its weight, as many as make up an encoder of BERT-base's size: a network's weights are cold,
and a smaller representation is also smaller in the caches. Times are CPU seconds of this process, so that other load does not change them
(caches and memory are still shared).
"""

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from _kernel_threads import bench_beside_torch
from _peers import PEERS, Array, aligned, in_turn

from tilewright import kernels
from tilewright.kernels import KernelArrays, reference
from tilewright.records import Record, write_record

SEED = 1
RECORDS = Path(__file__).parent / "records" / "kernels.jsonl"
# Goals, as multiples of the best dense library's speed; printed next to the results.
ROW_GOALS = {2: 2.2, 4: 4.0, 8: 6.5, 16: 10.0, 32: 13.0}
PANEL_GOALS = {2: 2.5, 4: 4.7, 8: 9.0, 16: 16.0, 32: 25.0}
NM_GOALS = {2: 1.5, 4: 2.6}
MODEL_BYTES = 324 << 20  # size of BERT-base's encoder in float32
# The other linear layers of BERT-base, as (tokens, outputs, inputs).
BERT = ((128, 768, 768), (128, 3072, 768), (128, 768, 3072), (384, 3072, 768), (384, 768, 3072))


@dataclass(frozen=True)
class Contender:
    """An implementation of one linear layer: its name, its call, its expected output and its goal."""

    name: str
    call: Callable[[], Array]
    inputs: dict[str, object]
    flops: float
    expected: Array
    copies: int
    read: Callable[[Array], Array] = lambda y: y
    goal: float | None = None


def tile_weight(rng: np.random.Generator, N: int, K: int, tile: int, ratio: int) -> KernelArrays:
    """Return a random weight whose tiles each keep K / ratio columns."""
    kept, tiles = K // ratio, -(-N // tile)
    columns = np.concatenate([np.sort(rng.permutation(K)[:kept]) for _ in range(tiles)]).astype(np.uint16)
    pointers = np.arange(tiles + 1, dtype=np.int64) * kept
    return KernelArrays(N, K, tile, aligned(rng.standard_normal(N * kept, dtype=np.float32)), columns, pointers)


def nm_weight(rng: np.random.Generator, N: int, K: int, n: int, m: int) -> KernelArrays:
    """Return a random n:m weight with separate positions for every output."""
    order = np.sort(np.argsort(rng.random((N, K // m, m)), axis=-1)[..., :n], axis=-1)
    columns = (order + np.arange(0, K, m)[:, None]).ravel().astype(np.uint16)
    pointers = np.arange(N + 1, dtype=np.int64) * (K // m * n)
    return KernelArrays(
        N, K, 1, aligned(rng.standard_normal(len(columns), dtype=np.float32)), columns, pointers, None, n, m
    )


def copies_of(N: int, K: int) -> int:
    """Return the number of dense weights ``[N, K]`` that make up a model."""
    return -(-MODEL_BYTES // (4 * N * K))


def copied(w: KernelArrays) -> KernelArrays:
    """Return a copy of a weight in separate memory."""
    return dataclasses.replace(w, values=aligned(w.values), columns=w.columns.copy(), pointers=w.pointers.copy())


def dense_contenders(x: Array, N: int, bias: Array, rng: np.random.Generator) -> list[Contender]:
    """Return every dense peer on a random weight ``[N, K]``."""
    weight, copies = rng.standard_normal((N, x.shape[1]), dtype=np.float32), copies_of(N, x.shape[1])
    expected = (x.astype(np.float64) @ weight.T.astype(np.float64) + bias).astype(np.float32)
    flops = 2.0 * x.size * N
    return [
        Contender(name, make(x, weight, bias, copies), {"engine": name, "density": 1.0}, flops, expected, copies)
        for name, make in PEERS.items()
    ]


def sparse_contenders(
    x: Array,
    w: KernelArrays,
    bias: Array,
    inputs: dict[str, object],
    T: int | None,
    goals: tuple[float | None, float | None] = (None, None),
    copies: int | None = None,
) -> list[Contender]:
    """Return our kernel on row-major activations and, with T, on panels of T tokens.

    `copies` of the weight take turns; by default as many as make up a model.
    """
    M, copies = len(x), copies or copies_of(w.N, w.K)
    weights = [copied(w) for _ in range(copies)]
    inputs = {"engine": "tilewright", **inputs, "operation": kernels.operation_of(w, M).name}
    expected = reference.linear(x, w, bias, "none")
    flops = 2.0 * M * w.kept
    out = aligned(np.zeros((M, w.N), np.float32))
    contenders = [
        Contender(
            "row-major",
            in_turn([lambda w=w: kernels.linear_arrays(x, w, bias, out=out) for w in weights]),
            {**inputs, "layout": "rows"},
            flops,
            expected,
            copies,
            goal=goals[0],
        )
    ]
    if T is not None:
        panels = kernels.pack_panels(x, T)
        result = kernels.linear_panels(panels, w, M, bias)
        contenders.append(
            Contender(
                "panels",
                in_turn([lambda w=w: kernels.linear_panels(panels, w, M, bias, out=result) for w in weights]),
                {**inputs, "layout": "panels", "T": T},
                flops,
                expected,
                copies,
                lambda y: kernels.unpack_panels(y, M),
                goals[1],
            )
        )
    return contenders


def check(c: Contender) -> None:
    """Exit if a contender computes a wrong result with any of its copies."""
    scale = np.sqrt(c.flops / 2 / c.expected.size) + 1
    for _ in range(c.copies):
        error = float(np.abs(c.read(c.call()) - c.expected).max())
        if not error < 2e-5 * scale:
            raise SystemExit(f"{c.inputs}: wrong result, off by {error:.3g}; nothing is timed")


def sample(call: Callable[[], Array], calls: int) -> float:
    """Return CPU seconds per call, after one call that brings code and activations back into the caches."""
    call()
    start = time.process_time_ns()
    for _ in range(calls):
        call()
    return (time.process_time_ns() - start) * 1e-9 / calls


def measure(contenders: list[Contender], rounds: int, slice_seconds: float) -> list[list[float]]:
    """Return samples of seconds per call for each contender, with the contenders taking turns."""
    for c in contenders:
        check(c)
    calls = [max(1, round(slice_seconds / max(sample(c.call, 3), 1e-7))) for c in contenders]
    samples: list[list[float]] = [[] for _ in contenders]
    for _ in range(rounds):
        for i, c in enumerate(contenders):
            samples[i].append(sample(c.call, calls[i]))
    return samples


def run_shape(
    title: str, dense: list[Contender], sparse: list[Contender], shape: dict[str, int], options: argparse.Namespace
) -> None:
    """Time all contenders of one shape, write their records and print a table."""
    peak = max(kernels.fma_peak(0.1) for _ in range(3))
    contenders = dense + sparse
    samples = measure(contenders, options.rounds, options.slice)
    medians = [statistics.median(s) for s in samples]
    best = min(range(len(dense)), key=lambda i: medians[i])
    print(
        f"\n{title}: FMA peak {peak / 1e9:.0f} GFLOP/s; dense "
        + ", ".join(
            f"{d.name} {m * 1e6:.0f} us ({d.flops / m / peak:.0%} of peak)"
            for d, m in zip(dense, medians, strict=False)
        )
    )
    print(f"  {'weight':<12}{'layout':<10}{'us':>8}{'of peak':>9}{'x dense':>9}{'goal':>7}{'bound':>7}")
    for c, times, median in zip(contenders, samples, medians, strict=True):
        ratio = medians[best] / median
        # The speed-up of a kernel that multiplies only kept weights, at the peak rate.
        bound = peak / (c.flops / medians[best])
        extra = {
            "peak_flops": peak,
            "share_of_peak": c.flops / median / peak,
            "times_best_dense": ratio,
            "best_dense": dense[best].name,
        }
        if c.goal is not None:
            extra |= {"goal": c.goal}
        inputs = {**shape, **c.inputs, "copies": c.copies, "threads": 1, "clock": "cpu"}
        write_record(
            options.records,
            Record.measure("kernel", title, times, "s", inputs=inputs, seed=SEED, checked=True, extra=extra),
        )
        if c in sparse:
            goal = "" if c.goal is None else f"{c.goal:.2f}"
            print(
                f"  {c.inputs['pattern']!s:<12}{c.inputs['layout']!s:<10}{median * 1e6:>8.0f}{c.flops / median / peak:>9.0%}"
                f"{ratio:>9.2f}{goal:>7}{bound:>7.2f}"
            )


def bench_tokens(M: int, N: int, K: int, tiles: tuple[int, ...], options: argparse.Namespace) -> None:
    """Time many tokens: tiles at five densities, and n:m with tile 1, on row-major activations and on panels."""
    rng = np.random.default_rng(SEED)
    x, bias = aligned(rng.standard_normal((M, K), dtype=np.float32)), aligned(rng.standard_normal(N, dtype=np.float32))
    dense, sparse = dense_contenders(x, N, bias, rng), []
    for tile in tiles:
        for ratio in options.ratios:
            w = tile_weight(rng, N, K, tile, ratio)
            goals = (ROW_GOALS[ratio], PANEL_GOALS[ratio]) if tile == 8 else (None, None)
            sparse += sparse_contenders(
                x, w, bias, {"pattern": f"tile{tile} 1/{ratio}", "tile": tile, "density": 1 / ratio}, 48, goals
            )
    for n, m in ((2, 4), (1, 4)):
        w = nm_weight(rng, N, K, n, m)
        inputs = {"pattern": f"{n}:{m}", "tile": 1, "density": n / m}
        sparse += sparse_contenders(x, w, bias, inputs, 128, (NM_GOALS[m // n], None))
    run_shape(f"{M}x{N}x{K}", dense, sparse, {"M": M, "N": N, "K": K}, options)


def bench_few(M: int, size: int, tiles: tuple[int, ...], options: argparse.Namespace) -> None:
    """Time one to eight tokens, where reading the weight from memory dominates."""
    rng = np.random.default_rng(SEED)
    x, bias = (
        aligned(rng.standard_normal((M, size), dtype=np.float32)),
        aligned(rng.standard_normal(size, dtype=np.float32)),
    )
    dense, sparse = dense_contenders(x, size, bias, rng), []
    for tile in tiles:
        for ratio in (2, 4, 8, 16):
            w = tile_weight(rng, size, size, tile, ratio)
            goal = 0.85 * ratio if M == 1 and tile == 16 else None
            sparse += sparse_contenders(
                x, w, bias, {"pattern": f"tile{tile} 1/{ratio}", "tile": tile, "density": 1 / ratio}, None, (goal, None)
            )
    w = nm_weight(rng, size, size, 2, 4)
    sparse += sparse_contenders(x, w, bias, {"pattern": "2:4", "tile": 1, "density": 0.5}, None)
    run_shape(f"{M}x{size}x{size}", dense, sparse, {"M": M, "N": size, "K": size}, options)


def bench_weights(M: int, size: int, options: argparse.Namespace) -> None:
    """Time the same kernels with one weight repeated and with a model's weights, to see the cost of reading them from memory."""
    rng = np.random.default_rng(SEED)
    x, bias = (
        aligned(rng.standard_normal((M, size), dtype=np.float32)),
        aligned(rng.standard_normal(size, dtype=np.float32)),
    )
    contenders: list[Contender] = []
    for w, inputs in (
        (tile_weight(rng, size, size, 8, 2), {"pattern": "tile8 1/2", "tile": 8, "density": 0.5}),
        (nm_weight(rng, size, size, 2, 4), {"pattern": "2:4", "tile": 1, "density": 0.5}),
    ):
        for copies in (1, copies_of(size, size)):
            contenders += sparse_contenders(x, w, bias, inputs, None, copies=copies)
    medians = []
    for c, times in zip(contenders, measure(contenders, options.rounds, options.slice), strict=True):
        inputs = {"M": M, "N": size, "K": size, **c.inputs, "copies": c.copies, "threads": 1, "clock": "cpu"}
        write_record(
            options.records,
            Record.measure("kernel-weights", f"{M}x{size}x{size}", times, "s", inputs=inputs, seed=SEED, checked=True),
        )
        medians.append(statistics.median(times))
    print(f"\na model's weights relative to one weight repeated, {M}x{size}x{size}")
    for c, repeated, cold in zip(contenders[::2], medians[::2], medians[1::2], strict=True):
        print(f"  {c.inputs['pattern']!s:<12}{cold / repeated:>8.2f}x")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one shape of each kind, and few rounds")
    parser.add_argument(
        "--records",
        type=Path,
        default=RECORDS,
        help="JSON-lines file; a full run replaces it, a partial run is appended",
    )
    parser.add_argument("--only", choices=("tokens", "few", "weights", "threads"), help="one part instead of all four")
    options = parser.parse_args()
    options.rounds, options.slice = (5, 0.005) if options.quick else (15, 0.01)
    options.ratios = (2, 8, 32) if options.quick else (2, 4, 8, 16, 32)
    return options


def main() -> None:
    options = parse()
    options.records.parent.mkdir(parents=True, exist_ok=True)
    if options.only is None:  # a full run replaces the last one; a partial run is appended
        options.records.unlink(missing_ok=True)
    print(
        f"implementation: {kernels.implementations()[0].name if kernels.implementations()[0].available else 'not the best'}"
    )
    if options.only in (None, "tokens"):
        bench_tokens(384, 768, 768, (8,) if options.quick else (4, 8, 16), options)
        for M, N, K in () if options.quick else BERT:
            bench_tokens(M, N, K, (8,), options)
    if options.only in (None, "few"):
        for M in (1,) if options.quick else (1, 2, 4, 8):
            bench_few(M, 4096, (16,) if options.quick else (16, 8), options)
    if options.only in (None, "weights"):
        for M in (16,) if options.quick else (16, 48, 128):
            bench_weights(M, 768, options)
    if options.only in (None, "threads"):
        for M in (384,) if options.quick else (48, 384):
            bench_beside_torch(tile_weight(np.random.default_rng(SEED), 768, 768, 8, 4), M, SEED, options)


if __name__ == "__main__":
    main()
