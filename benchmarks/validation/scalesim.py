"""SCALE-Sim v3 itself against our mode that speaks its language: every count must be equal.

Run as ``python benchmarks/validation/scalesim.py``; installs ``scalesim`` in an environment of its own under ``build/`` (its wheel needs NumPy
below 2), runs it over products and convolutions on five arrays and three data flows, and writes ``benchmarks/records/validation-scalesim.jsonl``.
A minute or two on one core. The records hold SCALE-Sim's own counts, so that comparing needs no installation.
"""

import csv
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

from tilewright.hardware.scalesim import conv_as_product, explain_difference, scalesim_cycles
from tilewright.records import Record, write_record

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "benchmarks" / "records" / "validation-scalesim.jsonl"
PLACE = ROOT / "build" / "scalesim"
PACKAGES = ("scalesim==3.0.0", "numpy<2")

ARRAYS = ((8, 8), (16, 16), (32, 32), (4, 16), (32, 8))
FLOWS = ("ws", "os", "is")
PRODUCTS = ((1, 1, 1), (1, 40, 24), (8, 8, 8), (32, 32, 32), (33, 31, 65), (17, 70, 9), (64, 48, 96), (5, 3, 130))
"""M, N, K: smaller than an array, equal to one, and ragged on every side."""

CONVOLUTIONS = ((8, 8, 3, 3, 4, 10, 1), (9, 7, 3, 3, 5, 12, 2), (10, 10, 3, 3, 3, 9, 2), (6, 6, 1, 1, 16, 20, 1))
"""Height, width, filter height and width, channels, filters, stride; in the third the stride does not divide."""

CONFIG = """[general]
run_name = run
[architecture_presets]
ArrayHeight = {rows}
ArrayWidth = {columns}
IfmapSramSzkB = 1024
FilterSramSzkB = 1024
OfmapSramSzkB = 1024
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Bandwidth = 10
Dataflow = {flow}
ReadRequestBuffer = 512
WriteRequestBuffer = 512
[layout]
IfmapCustomLayout = False
IfmapSRAMBankBandwidth = 10
IfmapSRAMBankNum = 10
IfmapSRAMBankPort = 2
FilterCustomLayout = False
FilterSRAMBankBandwidth = 10
FilterSRAMBankNum = 10
FilterSRAMBankPort = 2
[sparsity]
SparsitySupport = false
[run_presets]
InterfaceBandwidth = CALC
UseRamulatorTrace = False
"""


def interpreter() -> Path:
    """Return the Python of the environment, which is made if there is none."""
    python = PLACE / "bin" / "python"
    if not python.exists():
        venv.create(PLACE, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
    return python


def run(
    python: Path, kind: str, layers: list[tuple[int, ...]], rows: int, columns: int, flow: str
) -> list[tuple[int, int]]:
    """Return (total cycles, stall cycles) of each layer, as SCALE-Sim reports them."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "scale.cfg").write_text(CONFIG.format(rows=rows, columns=columns, flow=flow))
        lines = [f"layer{i}, {', '.join(map(str, layer))}, 1:1," for i, layer in enumerate(layers)]
        (place / "topology.csv").write_text("\n".join(["sizes,", *lines, ""]))
        # It asks for a layout even where layouts are off, and none comes with the wheel; the numbers are not read.
        layout = [f"layer{i}, {', '.join(['1'] * 20)}," for i in range(len(layers))]
        (place / "layout.csv").write_text("\n".join(["layouts,", *layout, ""]))
        (place / "out").mkdir()
        words = ["-c", "scale.cfg", "-t", "topology.csv", "-l", "layout.csv", "-p", "out", "-i", kind, "-s", "N"]
        called = [str(python), "-m", "scalesim.scale", *words]
        done = subprocess.run(
            called, cwd=place, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        report = place / "out" / "run" / "COMPUTE_REPORT.csv"
        if done.returncode or not report.exists():
            raise SystemExit(
                f"SCALE-Sim failed on {kind} {rows}x{columns} {flow}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
            )
        with report.open() as file:
            found = [{key.strip(): value for key, value in row.items() if key} for row in csv.DictReader(file)]
    return [(int(float(row["Total Cycles"])), int(float(row["Stall Cycles"]))) for row in found]


def points() -> Iterator[Record]:
    """Yield a record of every count; raise where ours is another."""
    python = interpreter()
    for rows, columns in ARRAYS:
        for flow in FLOWS:
            for kind, layers in (("gemm", PRODUCTS), ("conv", CONVOLUTIONS)):
                counts = run(python, kind, list(layers), rows, columns, flow)
                for layer, (cycles, stalls) in zip(layers, counts, strict=True):
                    M, N, K = layer if kind == "gemm" else conv_as_product(*layer)
                    array = {"rows": rows, "columns": columns, "flow": flow}
                    ours = scalesim_cycles(M, N, K, **array)
                    summary = explain_difference(M, N, K, **array).summary
                    print(
                        f"{kind:<5}{layer!s:<28}{rows:>3}x{columns:<4}{flow}{cycles:>8}{stalls:>6}{ours:>8}{summary['ours']:>8}",
                        flush=True,
                    )
                    yield Record.measure(
                        "validation",
                        "SCALE-Sim cycles",
                        cycles,
                        "cycles",
                        inputs={"kind": kind, "layer": layer, **array},
                        checked=cycles == ours,
                        extra={"stalls": stalls, "compatible": ours, "ours": summary["ours"], "packages": PACKAGES},
                    )


def main() -> int:
    """Compare, and record only if all is equal."""
    found = list(points())
    wrong = [record for record in found if not record.checked]
    print(f"{len(found) - len(wrong)} of {len(found)} counts are equal")
    if wrong:
        return 1
    RECORDS.unlink(missing_ok=True)
    for record in found:
        write_record(RECORDS, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
