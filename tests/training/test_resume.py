"""A recovery that is killed and restarted ends with the same bits as an uninterrupted one."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tilewright.errors import ArgumentError, FormatError
from tilewright.training import Checkpoint, recover_

from .tiny import STEPS, options, pair, tokens

PROGRAM = [sys.executable, str(Path(__file__).with_name("tiny.py"))]


def run(path: Path, seed: int, every: int, kill_at: int | None) -> None:
    process = subprocess.Popen([*PROGRAM, str(path), str(seed), str(every)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            if kill_at is not None and int(line) >= kill_at:
                os.kill(process.pid, signal.SIGKILL)
                break
    assert process.wait() == (0 if kill_at is None else -signal.SIGKILL)


def test_killed_at_random_steps_ends_bit_identical(tmp_path: Path) -> None:
    student, teacher = pair()
    whole = recover_(student, teacher, tokens(), options=options())
    path = tmp_path / "run" / "state"
    points = sorted(random.Random(20).sample(range(2, STEPS), 3))
    for seed, kill_at in enumerate(points):
        run(path, seed, 1, kill_at)
    run(path, 99, 1, None)
    final = torch.load(f"{path}.final")
    assert final.keys() == student.state_dict().keys()
    for name, tensor in student.state_dict().items():
        assert torch.equal(final[name], tensor), name
    assert len(whole.losses) == STEPS


class _StopError(Exception):
    pass


def stop_at(step: int, error: type[BaseException] = _StopError):
    def progress(count, steps, loss, extras):
        if count == step:
            raise error

    return progress


def interrupted(path: Path, step: int, error: type[BaseException] = _StopError, every: int = 2, **changes) -> None:
    student, teacher = pair()
    with pytest.raises(error):
        recover_(
            student,
            teacher,
            tokens(),
            options=options(**changes),
            checkpoint=Checkpoint(path, every=every),
            progress=stop_at(step, error),
        )


@pytest.mark.parametrize(
    "changes", [{}, {"precision": "bfloat16"}, {"schedule": "linear", "weight_decay": 0.1, "clip": None}]
)
def test_resume_between_checkpoints_repeats_the_lost_steps(tmp_path: Path, changes: dict) -> None:
    student, teacher = pair()
    whole = recover_(student, teacher, tokens(), options=options(**changes))
    interrupted(tmp_path / "state", 13, every=5, **changes)
    again, teacher = pair()
    result = recover_(again, teacher, tokens(), options=options(**changes), checkpoint=tmp_path / "state")
    assert result.resumed_from == 10
    assert result.losses == whole.losses
    for name, tensor in student.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_a_finished_run_trains_no_further(tmp_path: Path) -> None:
    path = tmp_path / "state"
    student, teacher = pair()
    first = recover_(student, teacher, tokens(), options=options(6), checkpoint=path)
    again, teacher = pair()
    second = recover_(again, teacher, tokens(), options=options(6), checkpoint=path, progress=stop_at(1))
    assert (second.resumed_from, second.steps, second.losses) == (6, 6, first.losses)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in student.state_dict().items())


def test_ctrl_c_leaves_the_last_checkpoint_and_no_scraps(tmp_path: Path) -> None:
    interrupted(tmp_path / "state", 5, KeyboardInterrupt)
    assert [file.name for file in tmp_path.iterdir()] == ["state"]
    student, teacher = pair()
    result = recover_(student, teacher, tokens(), options=options(), checkpoint=tmp_path / "state")
    assert result.resumed_from == 4


def test_half_written_checkpoint_of_a_killed_run_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "state"
    interrupted(path, 5)
    scraps = tmp_path / ".tilewright-part-dead"
    scraps.mkdir()
    (scraps / "state").write_bytes(path.read_bytes()[:100])
    student, teacher = pair()
    assert recover_(student, teacher, tokens(), options=options(), checkpoint=path).resumed_from == 4
    assert not scraps.exists()


def test_full_disk_names_the_file_and_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state"
    interrupted(path, 3)
    before = path.read_bytes()

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tilewright.records.files.whole.flush", full)
    student, teacher = pair()
    with pytest.raises(OSError, match=r"cannot write the checkpoint of step 4 to .*state: .*No space left"):
        recover_(student, teacher, tokens(), options=options(), checkpoint=Checkpoint(path, every=2))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"\xff" * 64, lambda b: b[:9] + b"x" + b[10:]]
)
def test_damaged_checkpoint_is_refused_with_the_remedy(tmp_path: Path, damage) -> None:
    path = tmp_path / "state"
    interrupted(path, 3)
    path.write_bytes(damage(path.read_bytes()))
    student, teacher = pair()
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    with pytest.raises(
        FormatError, match=r"state is not a complete checkpoint of a training run .*; remove it to start over"
    ):
        recover_(student, teacher, tokens(), options=options(), checkpoint=path)
    assert all(torch.equal(student.state_dict()[name], tensor) for name, tensor in before.items())


def test_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    interrupted(path, 3)
    student, teacher = pair()
    with pytest.raises(
        ArgumentError, match="belongs to a run that differs in its options; pass the original arguments, or remove"
    ):
        recover_(student, teacher, tokens(), options=options(seed=12), checkpoint=path)
    with pytest.raises(ArgumentError, match="a run that differs in its batches;"):
        recover_(student, teacher, tokens(60), options=options(), checkpoint=path)
    sparser, _ = pair("1:4")
    with pytest.raises(ArgumentError, match="a run that differs in its masks;"):
        recover_(sparser, teacher, tokens(), options=options(), checkpoint=path)
    with torch.no_grad():
        teacher.head.weight[0, 0] += 1
    with pytest.raises(ArgumentError, match="a run that differs in its teacher;"):
        recover_(student, teacher, tokens(), options=options(), checkpoint=path)


def test_bad_checkpoint_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ArgumentError, match="every must be 1 or more and seconds above 0 or None; got every=0, seconds=None"
    ):
        Checkpoint(tmp_path / "state", every=0)
    with pytest.raises(ArgumentError, match="is a folder; it must be a file"):
        Checkpoint(tmp_path)


def test_seconds_save_between_steps(tmp_path: Path) -> None:
    path = tmp_path / "state"
    student, teacher = pair()
    with pytest.raises(_StopError):
        recover_(
            student,
            teacher,
            tokens(),
            options=options(),
            checkpoint=Checkpoint(path, every=1000, seconds=1e-9),
            progress=stop_at(3),
        )
    again, teacher = pair()
    assert recover_(again, teacher, tokens(), options=options(), checkpoint=path).resumed_from == 3
