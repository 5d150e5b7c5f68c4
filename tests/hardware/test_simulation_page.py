"""The pages on simulation: their Python runs, their tables are complete, and importing the room loads nothing heavy."""

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from tilewright.hardware import CAUSES, NETWORKS, Simulation
from tilewright.hardware.machine.presets import PRESETS

DOCS = Path(__file__).parents[2] / "docs"
HOW_TO = (DOCS / "how-to" / "simulate.md").read_text()
REFERENCE = (DOCS / "reference" / "simulation.md").read_text()


def test_the_python_of_the_page_runs(capsys):
    known = {}
    for block in re.findall(r"```python\n(.*?)```", HOW_TO, re.DOTALL):
        exec(block, known)
    printed = capsys.readouterr().out
    assert 1 < float(printed.split()[0]) < 2
    assert "ideal saving" in printed


def test_every_cause_is_on_the_page_and_no_other():
    section = REFERENCE.split("### Causes")[1].split("###")[0]
    assert re.findall(r"^\| `([a-z -]+)` \|", section, re.MULTILINE) == list(CAUSES)


def test_every_field_and_method_is_on_the_page():
    words = set(re.findall(r"`(\w+)", REFERENCE.split("## What comes out")[1].split("### Causes")[0]))
    names = {field.name for field in fields(Simulation)} - {"spec", "workload", "batch", "dtype", "fidelity", "steps"}
    assert names | {"table", "waterfall", "roofline", "timeline", "assumptions", "seconds", "throughput"} <= words


def test_every_machine_and_network_is_named():
    page = (DOCS / "reference" / "cli.md").read_text()
    assert all(f"`{name}`" in page for name in (*NETWORKS, *(p for p in PRESETS if not p.endswith("-dense"))))


def test_simulating_a_named_network_needs_numpy_only():
    script = (
        "import sys; from tilewright.hardware import simulate; simulate('bert-base', 's4', pattern='2:4'); "
        "print(sorted(m for m in ('torch', 'transformers', 'matplotlib', 'amaranth', 'ray') if m in sys.modules))"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"
