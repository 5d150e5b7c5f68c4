"""S4 and STA against what is published about them, with the tolerance that is claimed."""

import pytest

from tilewright.hardware.machine.presets import preset
from tilewright.patterns import NM, Banked

from .validation import script

POINTS = script("s4").points()


@pytest.mark.parametrize("point", [p for p in POINTS if p.tolerance is not None], ids=lambda p: p.name)
def test_s4_meets_what_was_measured(point):
    assert abs(point.error) <= point.tolerance


def test_the_twelve_rates_are_all_there_and_half_of_them_were_held_out():
    measured = [p for p in POINTS if p.unit == "TOPS" and "target" not in p.name]
    assert len(measured) == 12
    assert sum(p.held for p in measured) == 6


def test_the_fit_is_the_one_of_the_preset():
    costs = preset("s4").costs
    bubble, fill = script("s4").fit("int8")
    assert float(costs["bubble"]) == pytest.approx(bubble, abs=5e-5)
    assert float(costs["fill"]) == pytest.approx(fill, abs=0.5)


def test_the_sparsity_of_each_network_is_the_least_that_could_reach_its_rate():
    s4 = script("s4")
    assert (s4.least_step("resnet50"), s4.least_step("bert-large")) == (16, 32)


def test_networks_stay_below_the_power_of_the_card():
    found = [p for p in POINTS if "limit" in p.name]
    assert len(found) == 2
    assert all(0.5 * p.published < p.modelled < p.published for p in found)


def test_networks_have_the_work_that_is_published():
    shapes = script("_shapes")
    assert sum(o.macs for o in shapes.known("resnet50", 1, None)) == pytest.approx(4.09e9, rel=0.01)  # 8.18 GOP
    assert sum(o.macs for o in shapes.known("bert-large", 1, None, 384)) == pytest.approx(123e9, rel=0.01)  # 246 GOP


def test_sta_ratios_are_intervals_and_the_published_one_is_judged():
    sta = script("sta")
    found = list(sta.intervals())
    assert len(found) == len(sta.NETWORKS) * len(sta.PATTERNS) * len(sta.RIVALS)
    assert all(0 < i.low <= i.middle <= i.high for i in found)
    possible = {(i.rival, i.network, i.pattern) for i in found if i.contains}
    # What public facts allow: the CPU ratio for a large network at 1:8, the GPU ratio for none of these.
    assert possible == {("i9-9900X", "BERT-base, 128 tokens", "1:8")}
    assert all(ratio == pytest.approx(1.875, abs=0.001) for ratio in sta.consistency().values())


@pytest.mark.parametrize(("name", "pattern", "dtype"), [("s4", Banked(16), "int8"), ("sta", NM(1, 8), "int16")])
def test_a_large_network_is_a_handful_of_different_operations(name, pattern, dtype):
    shapes = script("_shapes")
    network = shapes.known("bert-large", 8, pattern, 384)
    run = shapes.run(preset(name), network, dtype)
    assert len(network) == len(run.results) > 24 * 14
    assert len({id(result) for result in run.results}) <= 16
