"""There is one way to write files, and this package uses it everywhere."""

import ast
from pathlib import Path

import pytest

import tilewright

PACKAGE = Path(tilewright.__file__).parent
WRITERS = {"write_text", "write_bytes", "mkstemp", "NamedTemporaryFile", "rename", "replace", "savefig", "save_file"}
ALLOWED = {
    # Writes into a staging folder, which `staged` or `replacing` then moves into place.
    "formats/writing.py": {"write_bytes", "open"},
    "formats/atomic.py": {"rename", "replace"},
    "training/checkpoint.py": {"save_file"},
    "jobs/job.py": {"save_file"},
    "pages/figures.py": {"write_text", "savefig"},
    # Writes into a temporary folder that is deleted when the call ends.
    "jobs/speed/peers.py": {"open", "write_bytes"},
}


def calls(path: Path) -> set[str]:
    """Names of the calls in a source file that write files, unlike `str.replace` and `dataclasses.replace`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        owner = getattr(getattr(node.func, "value", None), "id", "")
        modes = [a.value for a in (*node.args, *(k.value for k in node.keywords)) if isinstance(a, ast.Constant)]
        writes = [
            mode for mode in modes if isinstance(mode, str) and set(mode) <= set("rwaxbt+") and set(mode) & set("wax+")
        ]
        if (name == "open" and owner != "os" and writes) or (
            name in WRITERS and (name not in ("replace", "rename") or owner == "os")
        ):
            found.add(name)
    return found


@pytest.mark.parametrize(
    "path",
    sorted(set(PACKAGE.rglob("*.py")) - set((PACKAGE / "records" / "files").glob("*.py"))),
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_files_are_written_by_the_room_for_it(path):
    assert calls(path) <= ALLOWED.get(str(path.relative_to(PACKAGE)), set())


def test_this_test_sees_what_writes():
    assert calls(PACKAGE / "records" / "files" / "whole.py") == {"write_bytes", "replace"}
    assert calls(PACKAGE / "formats" / "writing.py") == ALLOWED["formats/writing.py"]
