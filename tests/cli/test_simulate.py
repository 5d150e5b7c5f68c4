"""`tilewright simulate`: its table, its files, and what it refuses."""

import json

import pytest

from tilewright.cli import main


@pytest.fixture(scope="session")
def packed_model(tiny_model, tmp_path_factory):
    place = tmp_path_factory.mktemp("simulated") / "model"
    assert main(["prune", str(tiny_model), str(place), "--pattern", "2:4", "--quiet"]) == 0
    return place


def test_a_packed_checkpoint_on_three_machines(tilewright, packed_model):
    result = tilewright("simulate", packed_model, "--arch", "s4,sta,a100", "--batch", "1,8", "--json")
    assert result.code == 0, result.err
    rows = result.body["rows"]
    assert [(row["accelerator"], row["batch"]) for row in rows] == [
        (arch, batch) for arch in ("s4", "sta", "a100") for batch in (1, 8)
    ]
    for row in rows:
        assert row["ms, low"] <= row["ms"] <= row["ms, high"]
        assert row["over dense"] > 0.9  # a small model loses more to positions than it saves
    assert max(row["over dense"] for row in rows) > 1.05
    assert result.body["summary"]["density of the work"] < 0.7
    assert result.err == ""


def test_the_table_for_people(tilewright, packed_model):
    result = tilewright("simulate", packed_model, "--arch", "a100", "--layers", "--fidelity", "analytical")
    assert result.code == 0
    assert "encoder.layer.1.attention.self.query" in result.out
    assert result.out.splitlines()[0].startswith("name ")
    assert "over dense" in result.out
    assert "fidelity: analytical" in result.out


def test_layers_in_json(tilewright):
    result = tilewright("simulate", "--network", "bert-base", "--arch", "t4", "--layers", "--json")
    assert result.code == 0
    assert [run["summary"]["accelerator"] for run in result.body["runs"]] == ["t4"]
    assert len(result.body["runs"][0]["rows"]) == 173


def test_files_are_written_whole(tilewright, tmp_path):
    trace, page = tmp_path / "trace.json", tmp_path / "page.html"
    words = (
        "--network",
        "bert-base",
        "--pattern",
        "2:4",
        "--batch",
        "8",
        "--arch",
        "a100,sta",
        "--timeline",
        trace,
        "--html",
        page,
    )
    result = tilewright("simulate", *words)
    assert result.code == 0, result.err
    events = json.loads(trace.read_text())["traceEvents"]
    assert {event["pid"] for event in events} == {1, 2}
    text = page.read_text()
    assert text.count('class="plot roof"') == 2
    assert text.count("<h3>From dense to sparse</h3>") == 2
    assert text.count("<h3>What the time rests on</h3>") == 2
    assert "Content-Security-Policy" in text
    assert "<code>tilewright simulate --network bert-base --arch a100,sta --batch 8 --pattern 2:4" in text
    assert str(tmp_path) not in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "trace.json"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 2, "give either the folder of a model or --network NAME"),
        (("x", "--network", "gpt2"), 2, "give either the folder of a model or --network NAME"),
        (("no/such/folder",), 2, "no/such/folder is neither a folder nor a known network"),
        (("--network", "gpt3"), 2, "gpt3 is neither a folder nor a known network"),
        (("--network", "gpt2", "--arch", "h100"), 2, "unknown accelerator 'h100'"),
        (("--network", "gpt2", "--arch", ","), 2, "--arch takes comma-separated names of accelerators"),
        (("--network", "gpt2", "--batch", "0"), 2, "--batch takes comma-separated positive integers"),
        (("--network", "gpt2", "--dtype", "int3"), 2, "does not multiply int3"),
        (
            ("--network", "gpt2", "--fidelity", "rtl"),
            2,
            "unknown fidelity 'rtl'; expected one of 'roofline', 'analytical', 'tiles'",
        ),
        (("--network", "gpt2", "--pattern", "5:4"), 2, "5:4"),
        (("--network", "gpt2", "--sequence", "5000"), 2, "sequences of 1 to 1024 tokens"),
        (
            ("--network", "gpt2", "--html", "/no/such/folder/x.html"),
            2,
            "the folder to write to does not exist: /no/such/folder\n",
        ),
    ],
)
def test_refusals(tilewright, words, code, message):
    result = tilewright("simulate", *words)
    assert result.code == code
    assert message in result.err
    assert result.out == ""
