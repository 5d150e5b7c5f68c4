"""Results: causes that add up, work in order, and totals over a network."""

import json

import pytest

from tilewright.errors import ArgumentError
from tilewright.hardware import CAUSES, OperationResult, Simulation

from .machines import machine


def result(name="fc", cycles=100, causes=None, **more):
    fields = {"useful": 320, "issued": 640, "peak": 6400, "bytes": {"dram": 10}, "joules": {"mac": 1e-6}} | more
    return OperationResult(name, "linear", cycles, causes or {"useful": 30, "padding": 10, "bandwidth": 60}, **fields)


def simulation(*operations, **more):
    total = sum(o.cycles for o in operations)
    return Simulation(machine(), "net", 4, "int8", "tiles", operations, total, **more)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: result(causes={"luck": 100}),
            r"fc: unknown cause 'luck'; did you mean 'launch'\? Expected one of 'useful', ",
        ),
        (lambda: result(causes={"useful": 99}), "causes add up to 99 cycles, but the operation took 100"),
        (lambda: result(useful=641), "multiply-accumulates must satisfy useful <= issued <= peak, got 641, 640, 6400"),
        (lambda: result(issued=6401), "got [0-9]+, 6401, 6400"),
    ],
)
def test_refusals(make, words):
    with pytest.raises(ArgumentError, match=words):
        make()


def test_totals_of_a_network():
    one, two = (
        result(),
        result("fc2", 50, {"useful": 50}, peak=3200, bytes={"l2": 4}, joules={"mac": 1e-6, "dram": 2e-6}),
    )
    run = simulation(one, two)
    assert run.seconds == 150 / 1e9
    assert run.throughput == pytest.approx(4 / 150e-9)
    assert run.joules == pytest.approx(4e-6)
    assert run.watts == pytest.approx(4e-6 / 150e-9)
    assert run.causes == {"useful": 80, "padding": 10, "bandwidth": 60}
    assert sum(run.causes.values()) == run.cycles
    assert list(run.causes) == [cause for cause in CAUSES if cause in run.causes]
    assert run.bytes == {"dram": 10, "l2": 4}
    assert run.utilisation == {"useful": 640 / 9600, "issued": 1280 / 9600}


def test_the_table_names_the_largest_loss():
    report = simulation(result(note="tile 16x16"), result("ideal", 10, {"useful": 10})).table()
    assert [row["largest loss"] for row in report.rows] == ["bandwidth", ""]
    assert report.rows[0]["note"] == "tile 16x16"
    body = json.loads(report.to_json())
    assert body["summary"]["cycles"] == 110
    assert body["summary"]["cycles, bandwidth"] == 60
    assert body["summary"]["seconds, low"] == body["summary"]["seconds"]


def test_an_interval_is_shown():
    summary = simulation(result(), interval=(1e-8, 1e-6)).summary()
    assert (summary["seconds, low"], summary["seconds, high"]) == (1e-8, 1e-6)


def test_a_network_without_work():
    run = simulation()
    assert (run.joules, run.watts, run.causes, run.utilisation["useful"]) == (0, 0.0, {}, 0.0)
