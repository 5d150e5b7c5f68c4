"""`make mutants` tells killed from surviving: a changed function, a changed constant, a loop without end, and no change at all."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PROGRAM = """
import json, sys
from dataclasses import dataclass
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from _mutant_run import ROOT, Trial

@dataclass
class Change:
    path: str
    old: str
    new: str

    @property
    def source(self):
        return (ROOT / self.path).read_text()

    @property
    def line(self):
        return self.source[: self.source.index(self.old)].count(chr(10)) + 1

    def mutated(self):
        return self.source.replace(self.old, self.new, 1)

trial = Trial("src/tilewright/kernels", ["tests/kernels/test_dispatch.py"], Path(sys.argv[2]))
changes = json.loads(sys.argv[3])
print(json.dumps([trial.killer(Change(*change)) for change in changes]))
trial.close()
"""

FILE = "src/tilewright/kernels/dispatch.py"
CHANGES = [
    (FILE, "if not name:", "if not  name:"),  # the same
    (FILE, 'getattr(_last, "name", None)', 'getattr(_last, "name", "none")'),
    (FILE, 'VARIABLE = "TILEWRIGHT_KERNEL"', 'VARIABLE = "ANOTHER"'),
    (FILE, "if known.available:", "while known.available:"),
    (FILE, "_last.name = name", "while True: pass"),
    (FILE, "import threading", "import threadings"),
]


@pytest.mark.slow
def test_what_becomes_of_a_change(tmp_path):
    command = [sys.executable, "-c", PROGRAM, str(ROOT / "benchmarks"), str(tmp_path), json.dumps(CHANGES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    same, function, constant, not_a_loop, endless, broken = json.loads(done.stdout)
    assert same is None
    assert not_a_loop is None  # it returns in its first round
    assert function == "tests/kernels/test_dispatch.py::test_what_ran_is_remembered_for_each_thread"
    assert constant.startswith("tests/kernels/test_dispatch.py::")
    assert endless == "exit -24"  # SIGXCPU: out of processor time
    assert broken is not None
