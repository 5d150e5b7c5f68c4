"""The analytical level against the tile-event level, over every layer of BERT-base and ResNet-50 on every preset.

Run as ``python benchmarks/validation/fidelity.py``; prints the errors by machine and writes ``benchmarks/records/validation-fidelity.jsonl``.
With ``--figures`` it draws their histogram for the page on simulation.

A layer counts as bound by memory where DRAM at its bandwidth takes longer than the mean core works, waits for others left out;
there the two levels may differ by 5%, elsewhere by 1%. Patterns in `UNEVEN` come from packed weights, drawn with a seed so that tiles keep different amounts; the
others keep the same everywhere, and there the levels can only differ where tiles do at the edges.
"""

import argparse
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from tilewright.formats import pack
from tilewright.hardware import (
    PRESETS,
    AcceleratorSpec,
    Fidelity,
    Operation,
    OperationResult,
    WeightView,
    preset,
    workload,
)
from tilewright.hardware.engines import ENGINES, dram_bandwidth
from tilewright.hardware.engines.tensor_core import run_kernels
from tilewright.patterns import mask, parse
from tilewright.records import Record, write_record

RECORDS = Path(__file__).parents[1] / "records" / "validation-fidelity.jsonl"
FIGURE = Path(__file__).parents[2] / "docs" / "reference" / "fidelity.svg"
NETWORKS = ("bert-base", "resnet50")
BATCHES = (1, 8, 32)
PATTERNS = (None, "2:4", "1:8", "bank64@8x", "tw64@75%")
LEVELS: tuple[Fidelity, Fidelity] = ("tiles", "analytical")
UNEVEN = ("tw64@75%", "tvw64@75%", "any@90%")
SEED = 0
COMPUTE, MEMORY = 0.01, 0.05
EDGES = (0.0, 1e-6, 1e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 1.0)


@dataclass(frozen=True)
class Layer:
    """One layer at both levels."""

    machine: str
    network: str
    name: str
    error: float
    """Relative, of the analytical level."""
    memory: bool

    @property
    def allowed(self) -> float:
        """Largest error that the project promises."""
        return MEMORY if self.memory else COMPUTE


def layers(machine: str, network: str) -> Iterator[Layer]:
    """Yield every layer of a network on a machine, with every batch and pattern."""
    spec = preset(machine)
    dtype = spec.types[0]
    known: dict[object, tuple[float, bool]] = {}
    for batch in BATCHES:
        net = workload(network, batch)
        for text, uneven in (*((text, False) for text in PATTERNS), *((text, True) for text in UNEVEN)):
            pruned = (
                [drawn(o, text) for o in net] if uneven and text else net.with_pattern(parse(text) if text else None)
            )
            for operation in pruned:
                if text and operation.weight is None:
                    continue  # as with no pattern
                o = operation
                key = (batch, text, uneven, o.kind, o.function, o.M, o.N, o.K, o.copies, o.reads, o.writes)
                if key not in known:
                    exact, close = (timed(spec, o, dtype, level) for level in LEVELS)
                    error = close.cycles / exact.cycles - 1 if exact.cycles else 0.0
                    known[key] = error, bound_by_memory(spec, o, exact)
                error, memory = known[key]
                name = f"{operation.name}, batch {batch}, {text or 'dense'}{', packed' if uneven else ''}"
                yield Layer(machine, network, name, error, memory)


def timed(spec: AcceleratorSpec, operation: Operation, dtype: str, level: Fidelity) -> OperationResult:
    """Return one layer at one level; on GPUs with the kernels of its pattern, even where the dense one is faster and would be run."""
    if spec.engine == "tensor-core" and operation.is_product:
        return run_kernels(spec, operation, dtype, level)
    return ENGINES[spec.engine](spec, operation, dtype, level)


def drawn(operation: Operation, text: str) -> Operation:
    """Return an operation whose weight is pruned by random scores of rows and columns that matter differently."""
    if operation.weight is None or parse(text).refusal((operation.N, operation.K)):
        return operation
    return operation.with_weight(_drawn(operation.N, operation.K, text))


@cache
def _drawn(outputs: int, inputs: int, text: str) -> WeightView:
    rng = np.random.default_rng(SEED)
    scores = np.abs(rng.standard_normal((outputs, inputs)))
    scores *= np.exp(0.5 * rng.standard_normal((outputs, 1))) * np.exp(0.5 * rng.standard_normal((1, inputs)))
    kept = mask(parse(text), scores)
    return WeightView.of(pack(kept.astype(np.float16), parse(text), kept))


def bound_by_memory(spec: AcceleratorSpec, operation: Operation, result: OperationResult) -> bool:
    """Return True where DRAM at its bandwidth takes longer than what the mean core does."""
    transfer = result.bytes.get("dram", 0) * float(spec.clock) / dram_bandwidth(spec)
    waiting = ("bandwidth", "refresh", "launch", "fill and drain", "imbalance")
    lanes = result.cycles - sum(result.causes.get(cause, 0) for cause in waiting)
    return not operation.is_product or transfer > lanes


def histogram(found: list[Layer]) -> list[int]:
    """Return how many errors lie in each bin of `EDGES`, without their signs."""
    sizes = [abs(layer.error) for layer in found]
    bins = itertools.pairwise(EDGES)
    return [sum(low <= size < high or (high == EDGES[-1] and size >= high) for size in sizes) for low, high in bins]


def cost(machine: str) -> dict[str, float]:
    """Return the seconds that BERT-base takes at each level on this computer, one operation of a kind once."""
    spec, net = preset(machine), workload("bert-base", 8)
    engine = ENGINES[spec.engine]
    taken: dict[str, float] = {}
    for level in LEVELS:
        start = time.perf_counter()
        for operation in net:
            engine(spec, operation, spec.types[0], level)
        taken[level] = time.perf_counter() - start
    return taken


def draw(found: list[Layer]) -> None:
    """Draw how many layers differ by how much."""
    from tilewright.pages import bar_figure, save_figure

    labels = ["0", *(f"to {100 * edge:g}%" for edge in EDGES[2:-1]), "more"]
    kinds = {"lanes or launch": False, "DRAM": True}
    counts = {name: histogram([layer for layer in found if layer.memory == memory]) for name, memory in kinds.items()}
    groups = {label: {f"bound by {n}": float(c[i]) for n, c in counts.items()} for i, label in enumerate(labels)}
    figure = bar_figure(groups, "layers")
    figure.axes[0].set(yscale="log", ylim=(0.7, None))  # nearly all do not differ at all
    save_figure(figure, FIGURE)


def main() -> None:
    """Print and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figures", action="store_true", help="draw the histogram")
    figures = parser.parse_args().figures
    RECORDS.unlink(missing_ok=True)
    every: list[Layer] = []
    for machine in PRESETS:
        for network in NETWORKS:
            found = list(layers(machine, network))
            every += found
            worst = {
                kind: max((x for x in found if x.memory == kind), key=lambda x: abs(x.error), default=None)
                for kind in (False, True)
            }
            told = {
                f"worst, {'memory' if kind else 'compute'}": abs(x.error) if x else 0.0 for kind, x in worst.items()
            }
            good = all(abs(layer.error) <= layer.allowed for layer in found)
            print(
                f"{machine:<15}{network:<12}{len(found):>6} layers  "
                + "  ".join(f"{k} {v:.3%}" for k, v in told.items())
            )
            for x in worst.values():
                if x is not None and abs(x.error) > x.allowed:
                    print(f"    above what is promised: {x.name}: {x.error:+.2%}")
            mean = sum(abs(layer.error) for layer in found) / len(found)
            record = Record.measure(
                "fidelity",
                f"{network} on {machine}",
                mean,
                "relative error, mean",
                inputs={
                    "batches": list(BATCHES),
                    "patterns": [text or "dense" for text in PATTERNS],
                    "packed": list(UNEVEN),
                },
                seed=SEED,
                checked=good,
                extra={
                    **told,
                    "layers": len(found),
                    "edges": list(EDGES),
                    "histogram": histogram(found),
                    **{f"seconds, {k}": v for k, v in cost(machine).items()},
                },
            )
            write_record(RECORDS, record)
    if figures:
        draw(every)


if __name__ == "__main__":
    main()
