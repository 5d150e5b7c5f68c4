"""Repeating all remembered measurements."""

import pytest
import torch
from models import perceptron

import tilewright
from tilewright.runtime import measure_again
from tilewright.runtime.measured import choice
from tilewright.runtime.measured.memory import Choice, Memory
from tilewright.runtime.measured.timing import Timing


@pytest.fixture
def ratio(tmp_path, monkeypatch):
    """The result of every measurement; tests may change it."""
    state = {"ratio": 1.5, "quiet": True, "shapes": []}

    def fake(dense, sparse, inputs):
        state["shapes"] += [(sparse.shape, sparse.pattern, len(x)) for x in inputs]
        return [Timing(state["ratio"], 1.0, state["quiet"]) for _ in inputs]

    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(choice, "timings", fake)
    monkeypatch.setattr(choice, "whole_ratios", lambda *_: None)
    model = perceptron()
    tilewright.sparsify_(model, "2:4", targets={"0": "2:4", "2": "tw8@50%"})
    tilewright.save(model, tmp_path / "m")
    tilewright.load_(perceptron(), tmp_path / "m")
    return state


def test_every_remembered_layer_is_measured_and_replaced(ratio):
    ratio.update(ratio=0.8, shapes=[])
    report = measure_again()
    assert report.ok
    shapes = {(row["layer"], row["pattern"], row["tokens"]) for row in report.rows}
    assert shapes == {(f"{n}x{k}", text, m) for n, k, text in ((96, 64, "2:4"), (32, 96, "tw8@50%")) for m in (16, 128)}
    assert {(row["remembered"], row["measured"], row["runs"]) for row in report.rows} == {(1.5, 0.8, "dense")}
    assert {c.sparse for c in Memory().items().values()} == {False}


def test_other_machines_and_whole_models_are_left_alone(ratio, monkeypatch):
    memory = Memory()
    memory.put("Sequential of 2 | ...", Choice(True, {16: 1.2}, "generic", 1))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        ratio.update(shapes=[])
        assert not measure_again().rows
    finally:
        torch.set_num_threads(before)
    assert not ratio["shapes"]
    assert Memory().get("Sequential of 2 | ...") is not None


@pytest.mark.parametrize(
    "change", [{"shape": [4]}, {"pattern": "9:4"}, {"activation": "step"}, {"dtype": "none"}, {"layout": 3}]
)
def test_descriptions_that_make_no_layer_are_passed_over(ratio, change):
    memory = Memory()
    for key, known in memory.items().items():
        memory.put(key, Choice(True, known.ratios, known.kernel, known.threads, layer={**known.layer, **change}))
    assert not measure_again().rows


def test_on_a_busy_machine_nothing_is_replaced_and_the_report_says_so(ratio):
    ratio.update(ratio=0.1, quiet=False)
    report = measure_again()
    assert not report.ok
    assert {row["kept"] for row in report.rows} == {False}
    assert {c.sparse for c in Memory().items().values()} == {True}


def test_what_is_left_alone_does_not_hide_what_comes_after_it(ratio, monkeypatch, tmp_path):
    remembered = list(Memory().items().items())
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path / "another"))
    memory = Memory()
    for key, outcome in remembered:
        memory.put(f"another machine | {key}", Choice(True, {16: 1.2}, "generic", 1))
        memory.put(key, outcome)
    assert len(measure_again().rows) == 4
