"""Two processes for a test, through torchrun."""

import subprocess
import sys
from pathlib import Path


def on_two_processes(program: str, place: Path) -> Path:
    """Run a program beside this file, which gets the folder it writes to; return the folder."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, str(Path(__file__).with_name(program)), str(place)],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return place
