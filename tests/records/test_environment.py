"""The environment of a result is correct and contains no names or paths."""

import getpass
import os
import platform
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tilewright.records import environment, machine, revision, versions


def test_machine_tells_what_matters_to_a_kernel():
    facts = machine()
    assert facts["cpu"]
    assert facts["threads"] == os.cpu_count()
    assert facts["usable_threads"] == len(os.sched_getaffinity(0))
    assert 1 <= facts["cores"] <= facts["threads"]
    assert facts["memory_gib"] > 0.5
    assert facts["os"].startswith(platform.system())


def test_isa_is_what_the_kernel_reports():
    flags = Path("/proc/cpuinfo").read_text().split()
    facts = machine()
    assert ("avx2" in facts["isa"]) == ("avx2" in flags)
    assert ("avx512f" in facts["isa"]) == ("avx512f" in flags)


def test_two_sockets_of_two_cores_with_two_threads_are_four_cores(tmp_path):
    blocks = [
        f"processor\t: {n}\nmodel name\t: Test CPU\nphysical id\t: {socket}\ncore id\t: {core}\nflags\t: fma avx2 sse"
        for n, (socket, core) in enumerate([(s, c) for s in (0, 1) for c in (0, 1)] * 2)
    ]
    path = tmp_path / "cpuinfo"
    path.write_text("\n\n".join(blocks) + "\n")
    assert environment._cpuinfo(str(path)) == {"model name": "Test CPU", "flags": "fma avx2 sse", "cores": "4"}
    assert environment._cpuinfo(str(tmp_path / "none")) == {}


def test_nothing_names_the_host_or_the_user():
    text = f"{machine()} {versions()} {revision()}"
    assert socket.gethostname() not in text
    assert str(Path.home()) not in text
    assert getpass.getuser() not in text


def test_versions_come_without_imports():
    program = (
        "import sys; from tilewright.records import versions; v = versions(); "
        "assert 'torch' not in sys.modules and 'openvino' not in sys.modules; print(v['python'], v['torch'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == platform.python_version()


def test_a_change_of_what_was_returned_stays_with_the_caller():
    machine()["cpu"] = versions()["python"] = "changed"
    assert machine()["cpu"] != "changed"
    assert versions()["python"] == platform.python_version()


@pytest.fixture
def checkout(tmp_path):
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    file = tmp_path / "module.py"
    file.write_text("a = 1\n")
    (tmp_path / "measured.jsonl").write_text("{}\n")
    for words in (
        ["init", "-q"],
        ["add", "module.py", "measured.jsonl"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "one"],
    ):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    return file


def test_revision_is_the_hash_and_says_dirty(checkout):
    head = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=checkout.parent, capture_output=True, text=True, check=True
    )
    assert environment._revision(checkout) == head.stdout.strip()
    environment._revision.cache_clear()
    checkout.with_name("measured.jsonl").unlink()  # by a measurement that rewrites its records
    assert environment._revision(checkout) == head.stdout.strip()
    environment._revision.cache_clear()
    checkout.write_text("a = 2\n")
    assert environment._revision(checkout) == head.stdout.strip() + "-dirty"


def test_an_untracked_file_borrows_no_hash(checkout):
    other = checkout.with_name("installed.py")
    other.write_text("")
    assert environment._revision(other) is None


def test_a_folder_without_git_has_no_revision(tmp_path):
    assert environment._revision(tmp_path / "x.py") is None
