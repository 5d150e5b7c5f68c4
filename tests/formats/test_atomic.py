"""Writing is atomic: whatever fails, at any time, the directory holds the old checkpoint, or none if there was none."""

import errno
import json
import os

import numpy as np
import pytest
from samples import packed

from tilewright.errors import FormatError
from tilewright.formats import StoredWeight, read_checkpoint, read_checkpoint_bytes, write_checkpoint

OLD = {"w": StoredWeight(packed("2:4", (4, 8), 1))}
NEW = {"w": StoredWeight(packed("1:4", (4, 8), 2)), "v": StoredWeight(packed("any@50%", (4, 8), 2))}
DENSE = {"bias": np.arange(4, dtype=np.float32)}


def write_new(folder):
    write_checkpoint(
        folder, NEW, DENSE, {"new": True}, extra_files={"deep/er/tokenizer.json": b"{}"}, max_shard_bytes=100
    )


def contents(folder):
    """Every file below a folder with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class Interruption:
    """Counts calls of the system functions that writing uses, and makes the n-th fail."""

    FUNCTIONS = ("rename", "fsync", "open", "close")

    def __init__(self, monkeypatch, at: int, error: BaseException) -> None:
        self.at, self.error, self.calls = at, error, 0
        for name in self.FUNCTIONS:
            monkeypatch.setattr(os, name, self.wrap(getattr(os, name)))

    def wrap(self, function):
        def call(*args, **kwargs):
            self.calls += 1
            if self.calls == self.at:
                raise self.error
            # Waiting for the disk would take most of the time of this test without changing its result.
            return None if function.__name__ == "fsync" else function(*args, **kwargs)

        return call


def steps(tmp_path, monkeypatch) -> int:
    """Number of system calls of a complete write."""
    with monkeypatch.context() as patch:
        counter = Interruption(patch, -1, OSError())
        write_new(tmp_path / "counted")
    return counter.calls


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), MemoryError()],
    ids=lambda e: type(e).__name__,
)
@pytest.mark.parametrize("before", [True, False], ids=["over an earlier checkpoint", "into nothing"])
def test_a_failure_at_any_step_leaves_what_was_there(tmp_path, monkeypatch, error, before):
    """Each system call in turn is made to fail. The new checkpoint may be in place only if clean-up after the last rename fails."""
    write_new(tmp_path / "reference")
    expected, total = contents(tmp_path / "reference"), steps(tmp_path, monkeypatch)
    unchanged = 0
    for at in range(1, total + 1):
        folder = tmp_path / f"at{at}" / "model"
        earlier = {}
        if before:
            write_checkpoint(folder, OLD, DENSE, {"old": True})
            (folder / "notes.txt").write_text("mine")
            earlier = contents(folder)
        complete = expected | ({"notes.txt": b"mine"} if before else {})
        raised = False
        with monkeypatch.context() as patch:
            Interruption(patch, at, error)
            try:
                write_new(folder)
            except (FormatError, KeyboardInterrupt, MemoryError):
                raised = True
        after = contents(folder)
        assert after == complete if not raised else after in (earlier, complete), f"step {at} of {total}"
        if after == earlier:
            unchanged += 1
            assert before == folder.parent.exists(), "folders made on the way are removed again"
    assert unchanged > 20


def test_at_no_rename_is_there_a_config_beside_data_that_is_not_its_own(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    write_checkpoint(folder, OLD, DENSE, {"old": True})
    original, seen = os.rename, []

    def rename(source, target):
        original(source, target)
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        seen.append(read_checkpoint_bytes(files).config if "config.json" in files else None)

    monkeypatch.setattr(os, "rename", rename)
    write_new(folder)
    assert seen[-1] == {"new": True}
    assert set(map(str, seen[:-1])) == {"None"}
    assert len(seen) > 5


def test_a_full_disk_is_told_in_a_sentence(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    write_checkpoint(folder, OLD, DENSE, {"old": True})
    Interruption(monkeypatch, 4, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(
        FormatError,
        match=r"the checkpoint .*model cannot be written: No space left on device; its previous contents are unchanged\. Free",
    ):
        write_new(folder)


def test_an_extra_file_that_is_missing_leaves_what_was_there(tmp_path):
    folder = tmp_path / "model"
    write_checkpoint(folder, OLD, DENSE, {"old": True})
    earlier = contents(folder)
    with pytest.raises(FormatError, match=r"cannot be written: No such file or directory"):
        write_checkpoint(folder, NEW, DENSE, {}, extra_files={"a.json": tmp_path / "missing"})
    assert contents(folder) == earlier


def test_obsolete_shards_go_and_other_files_stay(tmp_path):
    folder = tmp_path / "model"
    write_new(folder)
    (folder / "notes.txt").write_text("mine")
    (folder / "model-card.md").write_text("mine too")
    assert len(list(folder.glob("model-*.safetensors"))) == 2
    write_checkpoint(folder, OLD, DENSE, {"old": True})
    assert sorted(contents(folder)) == [
        "config.json",
        "deep/er/tokenizer.json",
        "model-card.md",
        "model.safetensors",
        "notes.txt",
    ]
    assert read_checkpoint(folder).config == {"old": True}


def test_a_reader_keeps_what_it_has_mapped(tmp_path):
    write_checkpoint(tmp_path, OLD, DENSE, {})
    back = read_checkpoint(tmp_path)
    before = back.dense["bias"].data.tobytes(), back.weights["w"].packed.values.tobytes()
    write_checkpoint(tmp_path, NEW, {"bias": np.full(4, 9, dtype=np.float32)}, {})
    assert (back.dense["bias"].data.tobytes(), back.weights["w"].packed.values.tobytes()) == before


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "model").write_text("a file")
    with pytest.raises(
        FormatError, match=r"the checkpoint .*model cannot be written: .*; its previous contents are unchanged"
    ):
        write_new(tmp_path / "model")
    assert (tmp_path / "model").read_text() == "a file"


def test_files_are_readable_by_others_as_the_user_wishes(tmp_path):
    """A staging folder is private; files moved out of it follow the umask."""
    write_checkpoint(tmp_path / "model", OLD, DENSE, {})
    umask = os.umask(0)
    os.umask(umask)
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "model" / name).stat().st_mode & 0o777 == 0o666 & ~umask


def test_everything_is_on_the_disk_before_the_next_step_counts_on_it(tmp_path, monkeypatch):
    """Files are flushed before the first rename, config.json's removal before its data goes, and data before the new config.json."""
    folder = tmp_path / "model"
    write_checkpoint(folder, OLD, DENSE, {"old": True})
    events = []
    rename, fsync = os.rename, os.fsync

    def watched_rename(source, target):
        events.append(("rename", os.path.relpath(target, folder)))
        rename(source, target)

    def watched_fsync(handle):
        events.append(("fsync", os.path.relpath(os.readlink(f"/proc/self/fd/{handle}"), folder)))
        fsync(handle)

    monkeypatch.setattr(os, "rename", watched_rename)
    monkeypatch.setattr(os, "fsync", watched_fsync)
    write_new(folder)
    first = next(i for i, event in enumerate(events) if event[0] == "rename")
    flushed = {name.split("/", 2)[2] for kind, name in events[:first] if kind == "fsync" and name.count("/") > 1}
    assert flushed >= set(contents(folder)), "every new file is flushed before any name changes"
    assert events[first][1].endswith("old/config.json")
    assert events[first + 1] == ("fsync", "."), "the old config.json is gone for good before its data is"
    assert events[-4:-1] == [("fsync", "."), ("rename", "config.json"), ("fsync", ".")]
    assert events[-1][1].startswith(".tilewright-set-"), "and that the renames are over, before the staging folder goes"


@pytest.mark.parametrize("begun", [False, True])
def test_what_a_dead_writer_left_is_settled_by_the_next_one(tmp_path, begun):
    """Without the note that renames began it is rubbish; with it they are carried out, and then written over."""
    folder = tmp_path / "model"
    write_checkpoint(folder, OLD, DENSE, {"old": True})
    left = folder / ".tilewright-set-dead"
    (left / "new").mkdir(parents=True)
    (left / "new" / "extra.txt").write_text("from before")
    if begun:
        (left / "new" / "config.json").write_bytes((folder / "config.json").read_bytes())
        note = {"last": ["config.json"], "obsolete": [], "arriving": ["extra.txt", "config.json"]}
        (left / "begun.json").write_text(json.dumps(note))
    write_new(folder)
    assert not left.exists()
    assert (folder / "extra.txt").exists() == begun


def test_json_files_are_written_for_people_too(tmp_path):
    write_checkpoint(tmp_path / "model", OLD, DENSE, {"old": True})
    lines = (tmp_path / "model" / "config.json").read_text().split("\n")
    assert lines[0] == "{"
    assert lines[1].startswith('  "')
    assert lines[-2:] == ["}", ""]
