"""Sweeps: every design once, files that survive an interruption, fronts against a naive definition, quality from records."""

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilewright.errors import ArgumentError, FormatError, PatternError
from tilewright.hardware import Operation, WeightView, Workload
from tilewright.hardware.explore import Design, area, explore, grid, pareto, qualities
from tilewright.hardware.explore import sweep as sweeping
from tilewright.hardware.machine.presets import preset
from tilewright.hardware.simulate import simulate

ROOT = Path(__file__).parents[2]


def layer(M=64, N=96, K=128):
    weight = WeightView.dense(N, K)
    return Workload(
        f"layer {M} {N} {K}", (Operation("fc", "linear", M=M, N=N, K=K, weight=weight, reads=M * K, writes=M * N),)
    )


SMALL = layer()


@pytest.mark.parametrize("arch", ["a100", "s30", "sta"])
def test_a_row_is_what_a_simulation_says(arch):
    (row,) = explore([Design(arch, "bert-base", "2:4", batch=3, changes=(("clock", 5e8),))]).rows
    run = simulate(
        "bert-base",
        preset(arch).with_quantity("clock", 5e8),
        batch=3,
        pattern="2:4",
        fidelity="analytical",
        interval=False,
    )
    assert row["seconds"] == run.seconds
    assert row["samples/s"] == pytest.approx(3 / run.seconds)
    assert row["joules"] == pytest.approx(run.joules)
    assert row["area"] == 1
    assert row["clock"] == 5e8


def test_a_design_is_run_once(monkeypatch, tmp_path):
    ran = []
    real = sweeping.evaluate
    monkeypatch.setattr(sweeping, "evaluate", lambda design: ran.append(design) or real(design))
    file = tmp_path / "deep" / "sweep.jsonl"
    points = grid("sta", SMALL, patterns=[None, "2:4"], vary={"clock": [1e8, 2e8]})
    first = explore([*points, *points], out=file)
    assert len(ran) == 4
    assert first.rows[:4] == first.rows[4:]
    again = explore(points, out=file)
    assert len(ran) == 4
    assert again.rows == first.rows[:4]
    assert again.summary["known before"] == 4
    more = explore(grid("sta", SMALL, patterns=["2:4"], vary={"clock": [1e8, 3e8]}), out=file)
    assert len(ran) == 5
    assert more.rows[0] == first.rows[2]
    entries = [json.loads(line) for line in file.read_text().splitlines()]
    assert len({entry["key"] for entry in entries}) == len(entries) == 5


def test_what_a_killed_sweep_leaves_is_used(tmp_path):
    file = tmp_path / "sweep.jsonl"
    points = grid("s4", SMALL, vary={"clock": [4e8, 6e8, 8e8]})
    whole = explore(points, out=file)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + lines[1][:-20])
    again = explore(points, out=file)
    assert again.rows == whole.rows
    assert (again.summary["run now"], again.summary["known before"]) == (2, 1)
    assert sorted(file.read_bytes().splitlines(keepends=True)) == sorted(lines)


def test_a_strange_file_is_left_alone(tmp_path):
    file = tmp_path / "notes.jsonl"
    file.write_text("not a sweep\n")
    with pytest.raises(FormatError, match="line 1 is not a result of a sweep"):
        explore([Design("s4", SMALL)], out=file)
    assert file.read_text() == "not a sweep\n"


def test_keys_tell_designs_apart():
    base = Design("sta", SMALL)
    others = [
        base,
        Design("sta-dense", SMALL),
        Design("sta", layer(M=65)),
        Design("sta", SMALL, "2:4"),
        Design("sta", SMALL, dtype="int8"),
        Design("sta", SMALL, batch=2),
        Design("sta", SMALL, changes=(("clock", 1e8),)),
        Design("sta", SMALL, selectors=((2, 4),)),
        Design("sta", SMALL, selectors=()),
    ]
    assert len({design.key() for design in others}) == len(others)
    assert base.key() == Design("sta", layer(), dtype="int16").key()


def test_impossible_machines_are_rows_that_say_why():
    points = [
        *grid("sta", SMALL, vary={"rows": [0, 8]}),
        *grid("sta", SMALL, selectors=[((1, 3),)]),
        *grid("s4", "bert-large", vary={"memories.dram.size": [1e8]}),
        *grid("sta", SMALL, dtypes=["float32"]),
    ]
    report = explore(points)
    refused = [row["refused"] for row in report.rows]
    assert re.search(r"rows is 0; it must be a whole number of at least 1", refused[0])
    assert not refused[1]
    assert re.search(r"selectors.int16 is 1:3; it must be n:m with m a power of two", refused[2])
    assert re.search(r"bert-large does not fit s4", refused[3])
    assert re.search(r"sta does not multiply float32; it takes int16, int8", refused[4])
    assert all(row["seconds"] is None for row in report.rows if row["refused"])
    assert report.summary["refused"] == 4


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: explore([]), ArgumentError, r"designs is empty; grid\(\.\.\.\) makes some"),
        (
            lambda: grid("sta", SMALL, vary={"lanes": [1]}),
            ArgumentError,
            "sta has no number 'lanes' to vary; expected one of .*rows",
        ),
        (lambda: grid("stab", SMALL), ArgumentError, "unknown accelerator 'stab'; did you mean 'sta'"),
        (lambda: grid("sta", SMALL, patterns=["2:"]), PatternError, "2:"),
        (lambda: pareto([{"a": 1}], {}), ArgumentError, "objectives is empty; expected columns such as"),
        (lambda: pareto([{"a": 1}], {"b": "min"}), ArgumentError, "unknown column 'b'; expected one of 'a'"),
        (lambda: pareto([{"a": 1}], {"a": "less"}), ArgumentError, "objective a is 'less'; it must be 'min' or 'max'"),
    ],
)
def test_refusals(call, error, words):
    with pytest.raises(error, match=words):
        call()


def beaten(row, other):
    return (
        other["a"] <= row["a"]
        and other["b"] >= row["b"]
        and other["c"] <= row["c"]
        and (other["a"], other["b"], other["c"]) != (row["a"], row["b"], row["c"])
    )


few = st.integers(0, 4)


@given(st.lists(st.builds(lambda a, b, c: {"a": a, "b": b, "c": c}, few, few, few), max_size=30))
def test_a_front_is_what_nothing_beats(rows):
    front = pareto(rows, {"a": "min", "b": "max", "c": "min"})
    assert front == [row for row in rows if not any(beaten(row, other) for other in rows)]


def test_rows_without_an_objective_are_on_no_front():
    rows = [{"a": None, "b": 0}, {"a": 2, "b": 1}]
    assert pareto(rows, {"a": "min", "b": "min"}) == rows[1:]


def test_area_grows_with_what_is_built():
    sta = preset("sta")
    base = area(sta)
    assert base["total"] == base["lanes"] + base["selectors"] + base["memories"]
    twice = area(Design("sta", SMALL, changes=(("rows", 16),)).spec())
    assert twice["lanes"] == 2 * base["lanes"]
    assert twice["memories"] == base["memories"]
    wide = area(Design("sta", SMALL, changes=(("costs.window", 32),)).spec())
    assert wide["selectors"] == pytest.approx(base["selectors"] * 31 / 15)
    assert area(preset("a100"))["selectors"] < area(preset("a100"))["lanes"]
    assert area(preset("s30"))["total"] == pytest.approx(3 * area(preset("s4"))["total"])
    grown = Design("sta", SMALL, changes=(("rows", 16),)).spec()
    assert float(grown.energy["static"]) / float(sta.energy["static"]) == pytest.approx(twice["total"] / base["total"])


def test_quality_comes_from_records():
    file = ROOT / "benchmarks" / "records" / "minilm-half.jsonl"
    scores = qualities(file, "mrr", {"model": "packed"})
    assert set(scores) == {"dense", "32:64x4"}
    assert scores["32:64x4"] < scores["dense"]
    report = explore([Design("s4", SMALL), Design("s4", SMALL, "32:64x4"), Design("s4", SMALL, "2:4")], quality=scores)
    assert [row["quality"] for row in report.rows] == [scores["dense"], scores["32:64x4"], None]


def test_quality_by_pattern_is_a_median(tmp_path):
    def line(pattern, value, **more):
        inputs = {"pattern": pattern, **more}
        return json.dumps({"kind": "study", "name": "score", "inputs": inputs, "median": value}) + "\n"

    file = tmp_path / "study.jsonl"
    lines = [
        line("dense", 1.0),
        *(line("2:4", value, method="m") for value in (0.9, 0.7, 0.8)),
        line("2:4", 0.1, method="n"),
    ]
    file.write_text("".join(lines))
    assert qualities([file], "score", {"method": "m"}) == {"dense": 1.0, "2:4": 0.8}
    with pytest.raises(ArgumentError, match="no record named 'mrr' in"):
        qualities(file, "mrr")
    file.write_text("[1]\n")
    with pytest.raises(FormatError, match="is not a file of records"):
        qualities(file, "mrr")


def test_ray_stays_asleep_without_an_address():
    code = "import sys; from tilewright.hardware import Design, explore; explore([Design('s4', 'resnet50')]); sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_thousand_designs_of_bert_share_their_network():
    points = grid(
        "sta",
        "bert-base",
        patterns=[None, "1:8"],
        batches=[1, 8],
        vary={"rows": [4, 8, 16], "columns": np.arange(1, 85).tolist()},
    )
    assert len(points) >= 1000
    assert len({id(design.workload()) for design in points}) == 2  # one a batch
    some = explore(points[:: len(points) // 12])
    assert all(a["seconds"] > 0 for a in some.rows)
    assert len(pareto(some.rows, {"seconds": "min", "area": "min"})) >= 1
    assert len(set(itertools.chain.from_iterable(row for row in some.rows))) == len(some.rows[0])


def test_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "how-to" / "explore-designs.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 3
    names = {"__name__": "page"}
    for code in blocks:
        if "address=" not in code:
            exec(compile(code.replace('"benchmarks/', f'"{ROOT}/benchmarks/'), "page", "exec"), names)
