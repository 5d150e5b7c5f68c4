"""Start two processes for a test, with torchrun."""

import subprocess
import sys
from pathlib import Path


def on_two_processes(program: str, place: Path) -> Path:
    """Run a program from this file's folder with the folder for its results; return that folder."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = subprocess.run(
        [*launch, str(Path(__file__).with_name(program)), str(place)],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-4000:]
    return place
