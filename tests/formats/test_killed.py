"""If a process is killed at any time, the next to open the checkpoint finds the old or the new one complete, and no leftovers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from killed_writer import NEW, NEW_DENSE, OLD, OLD_DENSE, state, write_new, write_old
from samples import packed

from tilewright.errors import FormatError
from tilewright.formats import StoredWeight, is_checkpoint, read_checkpoint, write_checkpoint
from tilewright.records import locked

HERE = Path(__file__).parent


@pytest.mark.parametrize("before", ["old", "nothing"])
def test_a_kill_before_any_system_call_leaves_a_whole_checkpoint(tmp_path, before):
    run = subprocess.run(
        [sys.executable, "-W", "ignore", str(HERE / "killed_writer.py"), str(tmp_path / "model"), before],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )
    lines = [line.partition(" ")[::2] for line in run.stdout.splitlines()]
    assert len(lines) > 60
    assert {code for code, _ in lines[:-1]} == {"9"}
    assert {found for _, found in lines} == {before, "new", "then new"}
    first_new = next(at for at, (_, found) in enumerate(lines) if found == "new")
    assert before not in {found for _, found in lines[first_new:]}, "once it has begun it is carried to its end"


def killed(folder: Path, call_name: str, count: int) -> None:
    """Make a child write the new checkpoint and die before the n-th call of that name."""
    code = (
        "import os, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import killed_writer as k\n"
        f"k.CALLS = ({call_name!r},); k.die_at({count}); k.write_new(Path(sys.argv[2]))"
    )
    run = subprocess.run([sys.executable, "-c", code, str(HERE), str(folder)], check=False)
    assert run.returncode == 9


def test_a_reader_completes_what_was_begun(tmp_path):
    write_old(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    killed(tmp_path, "rename", 4)
    assert not (tmp_path / "config.json").exists()
    assert is_checkpoint(tmp_path)
    assert state(tmp_path) == "new"
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_many_kills_leave_nothing_behind(tmp_path):
    write_old(tmp_path)
    for count in range(1, 9):
        killed(tmp_path, "fsync", count)
    write_new(tmp_path)
    assert not list(tmp_path.glob(".tilewright-*"))


def test_a_reader_without_the_right_to_write_says_who_can_mend_it(tmp_path, monkeypatch):
    write_old(tmp_path)
    killed(tmp_path, "rename", 4)
    replace = os.replace

    def refuse(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(
        FormatError,
        match=r"has no config\.json: .*killed while replacing it, which this process cannot repair \(Read-only file system\)",
    ):
        read_checkpoint(tmp_path)
    monkeypatch.setattr(os, "replace", replace)
    assert state(tmp_path) == "new"


def test_on_a_system_without_locks_nothing_is_taken_for_dead(tmp_path, monkeypatch):
    write_old(tmp_path)
    killed(tmp_path, "rename", 4)

    def refuse(*_):
        raise OSError(95, "Operation not supported")

    with monkeypatch.context() as patch:
        patch.setattr("fcntl.flock", refuse)
        with pytest.raises(
            FormatError, match=r"on a file system without locks.*move the files in \.tilewright-set-.*/new"
        ):
            read_checkpoint(tmp_path)
        write_new(tmp_path)  # writing itself needs no lock
        assert state(tmp_path) == "new"
        assert len(list(tmp_path.glob(".tilewright-set-*"))) == 1
    write_new(tmp_path)
    assert not list(tmp_path.glob(".tilewright-set-*"))


def test_another_writer_is_refused_and_told_why(tmp_path):
    write_old(tmp_path)
    with locked(tmp_path), pytest.raises(FormatError) as caught:
        write_new(tmp_path)
    assert str(caught.value) == (
        f"the checkpoint {tmp_path} cannot be written: another process is writing to this folder; wait until it has finished or choose "
        "another folder"
    )
    assert state(tmp_path) == "old"


def test_two_writers_never_mix(tmp_path):
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import killed_writer as k\n"
        "from tilewright.errors import FormatError\n"
        "write = {'old': k.write_old, 'new': k.write_new}[sys.argv[3]]\n"
        "done = 0\n"
        "while done < 15:\n"
        "    try: write(Path(sys.argv[2])); done += 1\n"
        "    except FormatError as error: assert 'another process is writing' in str(error), error\n"
    )
    command = [sys.executable, "-c", code, str(HERE), str(tmp_path / "model")]
    writers = [subprocess.Popen([*command, which]) for which in ("old", "new")]
    seen = []
    while any(writer.poll() is None for writer in writers):
        try:
            checkpoint = read_checkpoint(tmp_path / "model")
        except FormatError as error:
            seen.append(str(error))
            continue
        which = checkpoint.config["is"]
        tensors, dense = {"old": (OLD, OLD_DENSE), "new": (NEW, NEW_DENSE)}[which]
        assert checkpoint.weights.keys() == tensors.keys()
        assert (checkpoint.dense["bias"].array() == dense["bias"]).all()
    assert [writer.wait() for writer in writers] == [0, 0]
    assert all(
        "does not exist" in text or "being replaced" in text or "changed while" in text or "cannot be read" in text
        for text in seen
    )
    assert not list((tmp_path / "model").glob(".tilewright-*"))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            {"last": ["config.json"], "obsolete": ["../precious"], "arriving": []},
            r"the name '\.\./precious' points outside the folder",
        ),
        ({"last": ["config.json"], "obsolete": ["/etc/x"], "arriving": []}, "points outside the folder"),
        ({"last": ["config.json"], "obsolete": [], "arriving": ["link/file"]}, "points outside the folder"),
        ({"last": ["config.json"], "obsolete": [7], "arriving": []}, "the name 7 points outside the folder"),
        ({"last": [], "obsolete": [], "arriving": []}, r"last must be a list of one name, got \[\]"),
        ({"last": ["config.json"], "obsolete": "x", "arriving": []}, "obsolete must be a list of names, got 'x'"),
        ({}, "last must be a list of one name, got None"),
    ],
)
def test_a_folder_that_was_made_up_moves_nothing_outside(tmp_path, body, message):
    """A downloaded checkpoint may contain a staging folder that no writer of this package has made."""
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "outside").mkdir()
    folder = tmp_path / "model"
    write_old(folder)
    (folder / "link").symlink_to(tmp_path / "outside")
    staging = folder / ".tilewright-set-made-up"
    (staging / "new" / "link").mkdir(parents=True)
    (staging / "new" / "link" / "file").write_text("theirs")
    (staging / "begun.json").write_text(json.dumps(body))
    with pytest.raises(FormatError, match=message):
        read_checkpoint(folder)
    assert (tmp_path / "precious").read_text() == "mine"
    assert not list((tmp_path / "outside").iterdir())


WEIGHTS = {
    "model.safetensors": b"\x02\0\0\0\0\0\0\0{}",
    "model-00001-of-00002.safetensors": b"\x02\0\0\0\0\0\0\0{}",
    "pytorch_model.bin": b"weights",
    "pytorch_model-00001-of-00002.bin": b"weights",
    "tf_model.h5": b"weights",
    "flax_model.msgpack": b"weights",
}


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("config", ["{}", '{"quantization_config": {"quant_method": "other"}}', "no json"])
def test_the_weights_of_others_are_not_replaced(tmp_path, name, config):
    (tmp_path / "config.json").write_text(config)
    (tmp_path / name).write_bytes(WEIGHTS[name])
    weight = {"w": StoredWeight(packed("2:4", (4, 8), 1))}
    with pytest.raises(
        FormatError,
        match=r"holds weights that tilewright did not write \(.*\), which writing a checkpoint would replace; choose another",
    ):
        write_checkpoint(tmp_path, weight, {}, {})
    assert (tmp_path / name).read_bytes() == WEIGHTS[name]
    assert (tmp_path / "config.json").read_text() == config
    assert len(os.listdir(tmp_path)) == 2


def test_what_this_package_wrote_may_be_replaced_whatever_became_of_its_config(tmp_path):
    write_old(tmp_path)
    for config in ("no json", "{}", None):
        if config is None:
            (tmp_path / "config.json").unlink()
        else:
            (tmp_path / "config.json").write_text(config)
        write_checkpoint(tmp_path, OLD, {"bias": np.zeros(4, dtype=np.float32)}, {})
        assert read_checkpoint(tmp_path).weights.keys() == {"w"}
