"""A short run of the fuzzer, and proof that it would notice faults. The long run is `make fuzz`."""

import contextlib
import copy
import subprocess
import sys
import tracemalloc
from itertools import islice
from pathlib import Path

import fuzz_checkpoint
import pytest
from mutants import KINDS, OTHERS, mutants, originals

from tilewright.errors import FormatError
from tilewright.formats import read_checkpoint_bytes

SCRIPT = Path(fuzz_checkpoint.__file__)


def test_mutants_are_refused_or_multiply_alike():
    outcomes = fuzz_checkpoint.run(3000, 7, fuzz_checkpoint.available())
    assert outcomes.keys() == {kind.__name__ for kind, _ in KINDS}
    assert all(counts["refused"] > 20 for counts in outcomes.values())
    assert sum(counts["multiplied"] for counts in outcomes.values()) > 300


def test_originals_are_good():
    """Nothing is rejected without damage; otherwise the mutants would prove nothing."""
    assert len(originals()) > 50
    for files in originals():
        assert fuzz_checkpoint.judge(files, ["reference"], fuzz_checkpoint.np.random.default_rng(0)) == "multiplied"


def test_the_same_seed_gives_the_same_mutants():
    assert list(islice(mutants(3), 50)) == list(islice(mutants(3), 50))
    assert list(islice(mutants(3), 50)) != list(islice(mutants(4), 50))


def test_no_lie_changes_what_later_lies_are_made_of():
    """A list inserted into itself once ended the run of seed 4242 at a mutant that never reached a reader."""
    before = copy.deepcopy(OTHERS)
    for _ in islice(mutants(4242), 30_000):
        pass
    assert before == OTHERS


def test_no_mutant_makes_the_reader_allocate_much():
    tracemalloc.start()
    try:
        for number, (kind, files) in enumerate(islice(mutants(11), 1500)):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            with contextlib.suppress(FormatError):
                read_checkpoint_bytes(files)
            grown = tracemalloc.get_traced_memory()[1] - before
            assert grown < 8 << 20, f"mutant {number} ({kind}) made the reader allocate {grown} bytes"
    finally:
        tracemalloc.stop()


def test_another_exception_stops_the_run_and_names_the_mutant(monkeypatch, capsys):
    def broken(files):
        raise IndexError("out of range")

    monkeypatch.setattr(fuzz_checkpoint, "read_checkpoint_bytes", broken)
    with pytest.raises(IndexError):
        fuzz_checkpoint.run(10, 5, [], only=3)
    assert "mutant 3 of seed 5" in capsys.readouterr().err


def test_kernels_that_disagree_stop_the_run(monkeypatch):
    import tilewright.kernels

    def linear(x, packed, *, implementation):
        right = x @ packed.unpack().T
        return right + (implementation == "wrong")

    monkeypatch.setattr(tilewright.kernels, "linear", linear)
    draw = fuzz_checkpoint.np.random.default_rng(0)
    files = originals()[0]
    assert fuzz_checkpoint.judge(files, ["right", "reference"], draw) == "multiplied"
    with pytest.raises(AssertionError, match="wrong"):
        fuzz_checkpoint.judge(files, ["wrong", "reference"], draw)


@pytest.mark.parametrize(
    ("reader", "end"),
    [("fuzz.read_checkpoint_bytes", "mutants in"), ("lambda files: fuzz.np.ones(1 << 30)", "MemoryError")],
)
def test_the_command_runs_under_its_memory_limit(reader, end):
    program = (
        f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); sys.argv = ['fuzz', '--mutants', '40', '--most-memory', '200']\n"
        f"import fuzz_checkpoint as fuzz; fuzz.read_checkpoint_bytes = {reader}; fuzz.main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert end in done.stdout + done.stderr, done.stderr
    assert done.returncode == (0 if end == "mutants in" else 1)
