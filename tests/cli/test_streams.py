"""Standard streams that are closed, full or closed early by their reader; names that contain terminal control characters."""

import json
import os
import subprocess
import sys

import pytest

from tilewright.cli.faults import Failure
from tilewright.cli.output import emit, emit_error
from tilewright.records import Report, cell, json_text

LONG = "x" * 1_000_000
NASTY = (
    "\ud800",
    "\u202e",
    "\u2066",
    "\u200f",
    "\u2028",
    "\x1b[2J",
    "\x9b2J",
    "\x00",
    "\r",
    "\n",
    "\x7f",
    "\ufeff",
    "\U000e0041",
)


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = f"{sys.executable} -m tilewright.cli"
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command.replace('tilewright', program, 1)}"],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("words", ["--version", "--help", "run --help", "run --schema x", "run no/recipe.yaml --json"])
@pytest.mark.parametrize(
    "to", ["| head -c 1", "> /dev/full", ">&-", "2>&-", ">&- 2>&-", "2> /dev/full", "0>&- 1>&- 2>&-"]
)
def test_no_stream_brings_a_traceback(words, to):
    process = shell(f"tilewright {words} {to}")
    assert "Traceback" not in process.stderr
    assert "Exception ignored" not in process.stderr
    assert "bug in tilewright" not in process.stderr
    assert process.returncode in (0, 2, 141), process.stderr
    if to in ("> /dev/full", ">&-") and words in ("--version", "run --schema x"):
        assert process.returncode == 2, "silence must not pass for a result"
        assert process.stderr.startswith("tilewright: the result cannot be written to standard output: ")
        assert process.stderr.count("\n") == 1


def test_a_file_never_takes_the_place_of_a_closed_stream(tmp_path):
    """With stdout closed, the next file opened would get descriptor 1, and library output would go into it."""
    code = (
        "import os, sys; from tilewright.cli.output import open_streams, stdout_kept_clean; open_streams()\n"
        "with stdout_kept_clean():\n"
        "    file = open(sys.argv[1], 'w'); os.write(1, b'printed by a library'); file.close()\n"
    )
    process = subprocess.run(
        ["bash", "-c", f'{sys.executable} -c "$0" "$1" >&-', code, str(tmp_path / "model")],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "model").read_text() == ""


def test_a_terminal_that_knows_only_ascii_gets_question_marks():
    process = shell("tilewright --help", PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_names_from_files_reach_no_terminal_as_they_are(capsys, text):
    name = f"layer{text}name"
    emit(Report("verify", ({"layer": name, "holds": True},), {name: name}), as_json=False)
    out = capsys.readouterr().out
    assert "layer?name" in out or "layer?[2J" in out or "layer?2J" in out
    assert set(out) <= set(map(chr, range(32, 127))) | {"\n"}
    emit_error(Failure("X", f"{name} is wrong", 2), as_json=True)
    captured = capsys.readouterr()
    assert captured.err.isascii()
    assert captured.err.count("\n") == 1
    assert json.loads(captured.out)["message"].startswith("layer")


def test_names_of_a_megabyte_are_cut_for_people_and_whole_for_programs(capsys):
    report = Report("verify", ({"layer": LONG, "holds": True},) * 3, {"layers": 3, "name": LONG})
    emit(report, as_json=False)
    assert len(capsys.readouterr().out) < 5000
    emit(report, as_json=True)
    assert json.loads(capsys.readouterr().out)["rows"][0]["layer"] == LONG
    emit_error(Failure("X", LONG, 2), as_json=True)
    captured = capsys.readouterr()
    assert len(captured.err) < 2100
    assert len(captured.out) < 2200


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_has_no_word_for_what_is_no_number(value):
    text = json_text({"a": value, "b": [value, {"c": value}], "d": 1.5, "e": "NaN"})
    refused = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert refused == {"a": None, "b": [None, {"c": None}], "d": 1.5, "e": "NaN"}
    assert "NaN" not in Report("bench", ({"ratio": value},), {"x": value}).to_json()
    assert cell(value) in ("nan", "inf", "-inf")
