"""The numbers on the pages are those of the records."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "tables.py"


def test_every_table_is_what_its_records_say():
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_changed_number_would_be_noticed(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    tables = __import__("tables")
    page = (ROOT / "README.md").read_text()
    table = page[page.index("<!-- table:models -->") :]
    assert "x (" in table
    assert tables.filled(page.replace("x (", "0x (")) == tables.filled(page)
    assert page.replace("x (", "0x (") != tables.filled(page)


def test_unknown_and_missing_records_are_refused(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    tables = __import__("tables")
    with pytest.raises(SystemExit, match="0 records are quality/nothing"):
        tables.one(tables.records("minilm"), "quality", "nothing")
    with pytest.raises(KeyError):
        tables.filled("<!-- table:unknown -->\n<!-- end -->")


def test_records_were_checked_before_they_were_kept():
    from tilewright.records import read_records

    files = sorted((ROOT / "benchmarks" / "records").glob("*.jsonl"))
    assert {file.stem for file in files} >= {
        "kernels",
        "masks",
        "loading",
        "minilm",
        "minilm-half",
        "minilm-long",
        "minilm-seeds",
    }
    files += sorted((ROOT / "studies" / "records").glob("*.jsonl"))
    for file in files:
        for record in read_records(file):
            timed = record.kind == "study" and record.name in ("speed", "latency")
            if timed or record.kind in ("latency", "kernel", "mask", "load"):
                assert record.checked, f"{file.name}: {record.kind}/{record.name}"
