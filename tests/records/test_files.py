"""Files and lines are written completely or not at all, even if a process is killed; two writers never share a folder."""

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tilewright.records import BusyError, append_line, clear, locked, replacing, staging, write_whole
from tilewright.records.files.whole import _PREFIX

KILLED_AT_EACH_CALL = """
import os, sys
from pathlib import Path
from tilewright.records.files import append_line, write_whole

path, what = Path(sys.argv[1]), sys.argv[2]
calls = 0

def child(at):
    def wrap(function):
        def call(*args, **kwargs):
            global calls
            calls += 1
            if calls == at:
                os._exit(9)
            result = function(*args, **kwargs)
            return result
        return call
    for name in ("open", "mkdir", "replace", "rename", "unlink", "rmdir", "fsync", "write", "ftruncate", "close", "scandir"):
        setattr(os, name, wrap(getattr(os, name)))
    write_whole(path, "new" * 1000) if what == "whole" else append_line(path, '{"new": 1}')
    os._exit(0)

at = 0
while True:
    at += 1
    path.write_text("old\\n" if what == "whole" else '{"old": 1}\\n{"to')
    child_id = os.fork()
    if child_id == 0:
        child(at)
    code = os.waitstatus_to_exitcode(os.waitpid(child_id, 0)[1])
    print(code, repr(path.read_text()), flush=True)
    if code == 0:
        break
"""


def fates(path: Path, what: str) -> list[tuple[int, str]]:
    """Exit code of the child and resulting content of the file, for a kill before each system call in turn."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED_AT_EACH_CALL, str(path), what],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    lines = [line.partition(" ") for line in run.stdout.splitlines()]
    return [(int(code), text) for code, _, text in lines]


def test_a_kill_at_any_call_leaves_the_old_file_or_the_new_one(tmp_path):
    found = fates(tmp_path / "file.txt", "whole")
    assert len(found) > 10
    assert {text for _, text in found} == {repr("old\n"), repr("new" * 1000)}
    assert found[-1] == (0, repr("new" * 1000))
    write_whole(tmp_path / "file.txt", "after")
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"], "what dead writers left is cleared"


def test_a_kill_at_any_call_leaves_whole_lines_and_at_most_a_torn_one(tmp_path):
    path = tmp_path / "log.jsonl"
    for _, text in fates(path, "line"):
        content = eval(text)
        assert content in ('{"old": 1}\n{"to', '{"old": 1}\n', '{"old": 1}\n{"new": 1}\n')
        path.write_text(content)
        append_line(path, '{"last": 1}')
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert lines[0] == {"old": 1}
        assert lines[-1] == {"last": 1}


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), MemoryError()], ids=repr)
def test_a_failure_leaves_the_old_file_and_no_scraps(tmp_path, error):
    write_whole(tmp_path / "a", "old")

    def fail():
        with replacing(tmp_path / "a") as new:
            new.write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert (tmp_path / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_full_disk_leaves_the_old_file_and_no_scraps(tmp_path, monkeypatch):
    write_whole(tmp_path / "a", "old")

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "a", "new")
    append_to = tmp_path / "a.jsonl"
    append_to.write_text('{"a": 1}\n')
    with pytest.raises(OSError, match="No space left"):
        append_line(append_to, '{"b": 1}')
    assert (tmp_path / "a").read_text() == "old"
    assert append_to.read_text() == '{"a": 1}\n'
    assert sorted(os.listdir(tmp_path)) == ["a", "a.jsonl"]


def test_a_disk_that_takes_only_a_part_is_given_the_rest(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:3]))
    append_line(tmp_path / "log", '{"a": "long enough"}')
    assert (tmp_path / "log").read_text() == '{"a": "long enough"}\n'


def test_a_link_is_followed_and_stays_a_link(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "link").symlink_to("deep/file")
    write_whole(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "deep" / "file").read_text() == "text"


def test_what_is_no_file_is_refused_and_stays(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="Not a regular file"):
        write_whole(tmp_path / "pipe", "text")
    with pytest.raises(OSError, match="Not a regular file"):
        append_line(tmp_path / "pipe", "{}")
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path, "text")
    with pytest.raises(FileNotFoundError, match="The folder to write to does not exist"):
        write_whole(tmp_path / "none" / "file", "text")
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.parametrize("content", [b"\x00\x01binary", b"a line\nand more", b"[1, 2"])
def test_a_file_that_holds_no_lines_of_json_is_not_cut(tmp_path, content):
    """A model named by mistake instead of a log must not be truncated."""
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(OSError, match="Not a file of JSON lines; left unchanged"):
        append_line(tmp_path / "model.bin", "{}")
    assert (tmp_path / "model.bin").read_bytes() == content


def test_files_are_readable_by_others_as_the_user_wishes(tmp_path):
    umask = os.umask(0o027)
    try:
        write_whole(tmp_path / "a", "x")
        append_line(tmp_path / "b", "{}")
    finally:
        os.umask(umask)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in "ab"] == [0o640, 0o640]


def test_many_processes_append_whole_lines(tmp_path):
    code = "import sys; from tilewright.records.files import append_line\nfor i in range(50): append_line(sys.argv[1], '{\"x\": \"' + 'y' * 5000 + '\"}')"
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "log")]) for _ in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    lines = (tmp_path / "log").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"x": "y" * 5000}] * 150


def test_the_scraps_of_living_writers_stay(tmp_path):
    with staging(tmp_path, _PREFIX) as mine:
        dead = tmp_path / f"{_PREFIX}dead"
        dead.mkdir()
        (dead / "half").write_text("half")
        clear(tmp_path, _PREFIX)
        assert mine.is_dir()
        assert not dead.exists()
    assert os.listdir(tmp_path) == []


def test_a_link_among_the_scraps_is_not_followed(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / f"{_PREFIX}link").symlink_to(tmp_path / "precious")
    (folder / f"{_PREFIX}real").mkdir()
    (folder / f"{_PREFIX}real" / "link").symlink_to(tmp_path / "precious")
    write_whole(folder / "a", "x")
    assert (tmp_path / "precious" / "file").read_text() == "x"
    assert not (folder / f"{_PREFIX}real").exists()


def test_a_lock_excludes_threads_and_processes_and_ends_with_its_holder(tmp_path):
    code = "import sys, time; from pathlib import Path; from tilewright.records.files import locked\nwith locked(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(600)"
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BusyError, match="another process is writing to this folder"), locked(tmp_path, patience=0):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with locked(tmp_path) as held:
        assert held
        caught = []

        def enter():
            try:
                with locked(tmp_path, patience=0):
                    pass
            except BusyError as error:
                caught.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        assert len(caught) == 1
    assert os.listdir(tmp_path) == [], "a lock leaves nothing behind"


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF], ids=errno.errorcode.get)
def test_without_locks_everything_is_written_and_nothing_cleared(tmp_path, monkeypatch, code):
    def refuse(handle, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refuse)
    (tmp_path / f"{_PREFIX}perhaps-alive").mkdir()
    with locked(tmp_path) as held:
        assert not held
    write_whole(tmp_path / "a", "x")
    append_line(tmp_path / "b", "{}")
    assert sorted(os.listdir(tmp_path)) == sorted([f"{_PREFIX}perhaps-alive", "a", "b"])
