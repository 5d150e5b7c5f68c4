"""Output: plain and aligned in a pipe, a table on a terminal, and never a control character from a file."""

import io
import os
import pty
import re
import subprocess
import sys
import textwrap
import time

from rich.console import Console

from tilewright.cli.output import emit
from tilewright.cli.progress import PlainProgress, TerminalProgress, progress
from tilewright.records import Progress, Report, SilentProgress

HOSTILE = "layer\x1b[31m\x07[bold]red[/bold]"


def on_a_terminal(program):
    """Run a program with stdout and stderr on a terminal 100 wide; return what it wrote there."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    running = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    parts = []
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # raised on Linux when the other side is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(ours)
    assert running.wait() == 0
    return b"".join(parts).decode()


def test_a_pipe_gets_the_plain_table_without_control_characters(capsys):
    code = emit(Report("verify", ({"layer": HOSTILE, "holds": True},), {"layers": 1}), as_json=False)
    out = capsys.readouterr().out
    assert code == 0
    assert out == "layer" + " " * 24 + "holds\nlayer?[31m?[bold]red[/bold]  yes\n\nlayers: 1\n"


def test_a_failed_report_asks_for_one(capsys):
    assert emit(Report("verify", (), {}, ok=False), as_json=True) == 1
    assert capsys.readouterr().out == '{"kind": "verify", "ok": false, "summary": {}, "rows": []}\n'


def test_a_terminal_gets_a_table_with_names_as_they_are():
    text = on_a_terminal(f"""
        from tilewright.cli.output import emit
        from tilewright.records.report import Report
        emit(Report("verify", ({{"layer": {HOSTILE!r}, "density": 0.5, "holds": False}},), {{"layers": 1}}), as_json=False)
    """)
    assert "layer?[31m?[bold]red[/bold]" in text
    assert "\x07" not in text
    assert re.search(r"0\.5\s+no", text)
    assert "layers: 1" in text


def test_bars_on_a_terminal_name_the_stage_and_the_count():
    text = on_a_terminal("""
        from tilewright.cli.progress import progress
        with progress(quiet=False) as display:
            display.stage("prune [2:4]")
            display.step(1, 2, "first")
            display.stage("pack")
            display.say("a [fact]")
            display.step(3, 4)
    """)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert "prune [2:4]" in shown
    assert "a [fact]" in shown
    assert "4/4" in shown


def test_the_progress_protocol_is_met_by_all(capsys):
    stream = io.StringIO()
    console = Console(file=stream)
    for display in (SilentProgress(), PlainProgress(stream), TerminalProgress(console)):
        assert isinstance(display, Progress)
    with progress(quiet=True) as display:
        display.stage("x")
        display.say("y")
    assert capsys.readouterr().err == ""


def test_plain_lines_come_at_the_pace_of_a_reader(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    stream = io.StringIO()
    display = PlainProgress(stream)
    display.stage("recover")
    for step in range(1, 21):
        clock[0] += 1.0
        display.step(step, 20, "loss 0.5")
    display.say("finished")
    assert stream.getvalue().splitlines() == [
        "recover",
        "  5/20, loss 0.5, 15 s left",
        "  10/20, loss 0.5, 10 s left",
        "  15/20, loss 0.5, 5 s left",
        "  20/20, loss 0.5",
        "finished",
    ]


def test_a_step_without_a_stage_still_shows():
    stream = io.StringIO()
    with TerminalProgress(Console(file=stream, force_terminal=True, width=100)) as display:
        display.step(1, 3)
    assert "working" in stream.getvalue()
