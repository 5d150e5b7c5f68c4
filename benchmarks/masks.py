"""Time of every mask solver on the weights of BERT-large, and of MiniLM's 36 layers, on one core.

Run as ``python benchmarks/masks.py [--quick]``; prints a table and writes records to ``benchmarks/records/masks.jsonl``. Weights are
seeded normal numbers in the real shapes, since the solvers' work does not depend on what the numbers mean. The first and the last mask
of a run are verified against the pattern before the time is recorded.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from pathlib import Path

import numpy as np

from tilewright.patterns import parse, project, verify_mask
from tilewright.records import Record, write_record

PATTERNS = [
    "2:4",
    "1:4",
    "2:8",
    "2:4x8",
    "2:4t",
    "bank64@16x",
    "32:64x4",
    "tw16@75%",
    "tew16@75%+5%",
    "tvw16@75%",
]
PATTERNS += ["block32x32@75%", "any@90%"]

MODELS = {
    "bert-large": 24 * [(1024, 1024)] * 4 + 24 * [(4096, 1024), (1024, 4096)],
    "minilm": 6 * [(384, 384)] * 4 + 6 * [(1536, 384), (384, 1536)],
}
RECORDS = Path(__file__).parent / "records" / "masks.jsonl"


def scores_of(shapes: list[tuple[int, int]]) -> dict[str, np.ndarray]:
    """Return seeded absolute weights, one array per layer."""
    rng = np.random.default_rng(0)
    return {str(i): np.abs(rng.standard_normal(shape, dtype=np.float32)) for i, shape in enumerate(shapes)}


def measure(model: str, text: str, scores: dict[str, np.ndarray], rounds: int) -> Record:
    """Time one pattern over all layers of one model, ranked together; verify the first and the last mask."""
    pattern = parse(text)
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        masks = project(pattern, scores)
        times.append(time.perf_counter() - start)
    for name in (next(iter(masks)), next(reversed(masks))):
        verdict = verify_mask(pattern, masks[name], exact=True, check_density=False)
        assert verdict, verdict.message
    weights = sum(score.size for score in scores.values())
    kept = sum(int(np.count_nonzero(mask)) for mask in masks.values())
    return Record.measure(
        "mask",
        text,
        times,
        "s",
        inputs={"model": model, "weights": weights, "threads": 1},
        seed=0,
        checked=True,
        extra={"density": kept / weights, "ns_a_weight": 1e9 * min(times) / weights},
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="MiniLM only")
    quick = parser.parse_args().quick
    RECORDS.parent.mkdir(exist_ok=True)
    RECORDS.unlink(missing_ok=True)
    print(f"{'model':<12}{'pattern':<16}{'seconds':>9}{'ns/weight':>11}{'density':>9}")
    for model in ["minilm"] if quick else list(MODELS):
        scores = scores_of(MODELS[model])
        for text in PATTERNS:
            record = measure(model, text, scores, 3 if model == "minilm" else 1)
            write_record(RECORDS, record)
            extra = record.extra
            print(
                f"{model:<12}{text:<16}{record.median:>9.3f}{extra['ns_a_weight']:>11.2f}{extra['density']:>9.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
