"""Each study runs from one command in its small configuration, writes records and figures, and recomputes nothing."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from studies.tiles import DENSE, KINDS, LEVELS, STEPS, stages

from tilewright.records import read_records
from tilewright.training import MultiStage

ROOT = Path(__file__).parents[2]
STUDIES = sorted(path.stem for path in (ROOT / "studies").glob("[a-z]*.py"))


def run(name, folder):
    command = [sys.executable, "-W", "error", "-m", f"studies.{name}", "--small", "--output", str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=540)


def test_all_five_are_found():
    assert STUDIES == ["high_sparsity", "inherited", "one_shot", "tiles", "two_four"]


def test_every_chain_of_tiles_is_one_that_can_be_trained():
    for kind in KINDS:
        patterns = stages(kind, LEVELS)
        assert len(patterns) == len(LEVELS)
        assert kind == DENSE or MultiStage(patterns, every=STEPS).last == len(patterns) * STEPS


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_a_study_runs_small_and_goes_on_where_it_was(tmp_path, name):
    first = run(name, tmp_path)
    assert first.returncode == 0, first.stderr[-2000:]
    records = read_records(tmp_path / f"{name}.jsonl")
    assert len(records) >= 5
    assert (tmp_path / f"{name.replace('_', '-')}.svg").read_text().startswith("<?xml")
    shutil.rmtree(tmp_path / name, ignore_errors=True)  # models and checkpoints; only records are committed
    again = run(name, tmp_path)
    assert again.returncode == 0, again.stderr[-2000:]
    assert read_records(tmp_path / f"{name}.jsonl") == records
    assert again.stdout == first.stdout


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_stays_a_script_of_one_screenful(name):
    assert len((ROOT / "studies" / f"{name}.py").read_text().splitlines()) <= 200
