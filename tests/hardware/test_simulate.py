"""Whole networks on every machine: sums that add up, levels that agree, intervals that contain the value, errors."""

import itertools
import json

import numpy as np
import pytest
import torch
from torch import nn

import tilewright
from tilewright import sparsify_
from tilewright.errors import ArgumentError, FormatError
from tilewright.hardware import Operation, WeightView, Workload
from tilewright.hardware.machine.interval import vary
from tilewright.hardware.machine.presets import PRESETS, preset
from tilewright.hardware.networks import workload
from tilewright.hardware.simulate import simulate
from tilewright.patterns import parse

LEVELS = ("roofline", "analytical", "tiles")
CARDS = ("a100", "rtx3090", "t4", "v100", "s4", "s30", "sta")


def quick(model, arch, **options):
    return simulate(model, arch, **({"interval": False} | options))


@pytest.mark.parametrize("arch", PRESETS)
@pytest.mark.parametrize("network", ["bert-base", "resnet50"])
def test_what_must_hold_of_every_run(arch, network):
    run = quick(network, arch, batch=4, pattern="2:4")
    assert sum(run.causes.values()) == run.cycles == sum(o.cycles for o in run.operations)
    now = 0
    for o in run.operations:
        assert o.start == now
        assert o.useful <= o.issued <= o.peak
        now += o.cycles
    assert [o.name for o in run.operations] == [o.name for o in run.steps]
    assert sum(o.useful for o in run.operations) == sum(o.useful for o in run.steps)
    assert 0 < run.utilisation["useful"] <= run.utilisation["issued"] <= 1
    assert run.throughput == pytest.approx(4 / run.seconds)
    assert run.joules == pytest.approx(run.watts * run.seconds)


@pytest.mark.parametrize("arch", PRESETS)
@pytest.mark.parametrize("pattern", [None, "2:4", "bank64@4x", "1:8", "tw64@75%", "any"])
def test_no_level_is_below_the_roof(arch, pattern):
    net = workload("bert-base", 3, 40)
    if pattern == "any":
        view = WeightView((768, 768), parse("any@90%"), 1, np.full(768, 76), np.ones(768, np.int64), 768)
        net = Workload("one", (Operation("fc", "linear", M=64, N=768, K=768, weight=view, reads=1, writes=1),))
    chosen = None if pattern in (None, "any") else parse(pattern)
    roof, model, events = (quick(net, arch, fidelity=level, pattern=chosen) for level in LEVELS)
    for low, middle, high in zip(roof.operations, model.operations, events.operations, strict=True):
        assert low.cycles + low.hidden <= middle.cycles + middle.hidden, (low, middle)
        assert middle.cycles + middle.hidden <= 1.01 * (high.cycles + high.hidden) + 1, (middle, high)


@pytest.mark.parametrize("arch", CARDS)
def test_watts_stay_below_the_cards_limit(arch):
    limit = preset(arch).limits.get("power")
    if limit is None:
        pytest.skip(f"{arch} states no limit")
    for network, batch in (("bert-large", 8), ("resnet50", 32), ("bert-base", 1)):
        for pattern in (None, "2:4"):
            run = quick(network, arch, batch=batch, pattern=pattern)
            assert 0 < run.watts < float(limit), (network, batch, pattern)
            assert run.table().summary["watts/limit"] == pytest.approx(run.watts / float(limit))


@pytest.mark.parametrize("arch", CARDS)
def test_the_waterfall_adds_up_to_the_difference_of_two_runs(arch):
    dense, sparse = quick("bert-base", arch, batch=2), quick("bert-base", arch, batch=2, pattern="2:4")
    report = sparse.waterfall(dense)
    first, *steps, last = report.rows
    assert (first["cycles"], last["cycles"]) == (dense.cycles, sparse.cycles)
    assert first["cycles"] + sum(row["cycles"] for row in steps) == last["cycles"]
    running = dense.cycles
    for row in steps:
        running += row["cycles"]
        assert row["after"] == running
    share = sum(o.useful for o in sparse.operations) / sum(o.useful for o in dense.operations)
    assert 0.5 < share < 0.6  # products of activations stay dense
    assert steps[0]["step"] == "ideal saving"
    assert -steps[0]["cycles"] == pytest.approx((1 - share) * dense.cycles, abs=len(dense.causes) + 1)
    assert report.summary["ideal speed-up"] == pytest.approx(1 / share)
    beyond = {row["step"]: row["cycles"] for row in steps[1:]}
    for cause in {**dense.causes, **sparse.causes}:
        took = sparse.causes.get(cause, 0) - share * dense.causes.get(cause, 0)
        assert beyond.get(cause, 0) == pytest.approx(took, abs=1)
    assert abs(beyond.get("useful", 0)) <= len(dense.operations)
    assert report.summary["speed-up"] == dense.cycles / sparse.cycles


def test_a_waterfall_of_two_clocks_is_refused():
    with pytest.raises(ArgumentError, match="a waterfall compares cycles of one clock"):
        quick("bert-base", "a100").waterfall(quick("bert-base", "t4"))


@pytest.mark.parametrize("arch", ["a100", "s4", "sta"])
def test_the_interval_holds_the_value_and_every_single_move(arch):
    run = simulate("bert-base", arch, batch=2, fidelity="analytical")
    low, high = run.interval
    assert low <= run.seconds <= high
    assert low < high
    moved = [value for effect in run.effects for value in (effect.low, effect.high) if value is not None]
    assert low <= run.seconds * (1 + min(moved)) * (1 + 1e-9)
    assert high >= run.seconds * (1 + max(moved)) * (1 - 1e-9)
    assert [e.size for e in run.effects] == sorted((e.size for e in run.effects), reverse=True)
    for effect in run.effects[:4]:  # against whole simulations of the moved machine
        for end, change in zip(effect.quantity.interval, (effect.low, effect.high), strict=True):
            if change is not None:
                other = quick("bert-base", vary(preset(arch), effect.path, end), batch=2, fidelity="analytical")
                assert other.seconds / run.seconds - 1 == pytest.approx(change, abs=1e-9)
    report = run.assumptions()
    assert report.rows[0]["number"] == run.effects[0].path
    assert all(row["source"] for row in report.rows)
    assert report.summary["seconds, high"] == high
    assert not quick("bert-base", arch).assumptions().summary["carried through"]


def test_sides_of_an_array_take_their_lanes_along():
    spec = vary(preset("sta"), "rows", 4)
    assert float(spec.macs["int16"]) * 2 == float(preset("sta").macs["int16"])


def test_a_certain_machine_has_no_width():
    spec = preset("s4")
    for path, number in list(spec.quantities()):
        if not number.certain:
            spec = spec.with_quantity(path, number.value)
    run = simulate("bert-base", spec)
    assert run.interval == (run.seconds, run.seconds)
    assert run.effects == ()


def test_chips_share_a_batch():
    one, three = quick("bert-base", "s4", batch=2), quick("bert-base", "s30", batch=6)
    assert three.cycles == one.cycles
    assert three.throughput == pytest.approx(3 * one.throughput)
    assert three.joules == pytest.approx(3 * one.joules)
    uneven = quick("bert-base", "s30", batch=5)  # the fullest chip still has two
    assert uneven.cycles == three.cycles
    assert uneven.batch == 5
    assert uneven.joules < three.joules


def test_vector_work_hides_behind_products():
    spec = preset("s4")
    alone = quick("bert-base", spec.with_quantity("costs.overlap.default", 0), batch=4)
    beside = quick("bert-base", spec, batch=4)
    hidden = sum(o.hidden for o in beside.operations)
    assert hidden > 0
    assert sum(o.hidden for o in alone.operations) == 0
    assert beside.cycles < alone.cycles
    assert all(o.hidden == 0 for o in beside.operations if o.peak)


def test_the_timeline_is_a_trace():
    run = quick("bert-base", "sta", batch=1)
    trace = json.loads(json.dumps(run.timeline()))
    bars = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert {bar["name"] for bar in bars} <= {o.name for o in run.operations}
    lanes = [bar for bar in bars if bar["tid"] == 1]
    for one, other in itertools.pairwise(lanes):
        assert one["ts"] + one["dur"] <= other["ts"] * (1 + 1e-9) + 1e-6
    assert max(bar["ts"] + bar["dur"] for bar in bars) == pytest.approx(run.seconds * 1e6)
    assert sum(bar["args"]["cycles"] for bar in bars) == run.cycles


def test_the_roofline_has_every_product_under_a_roof():
    run = quick("bert-base", "a100", batch=8)
    report = run.roofline()
    products = [o for o in run.operations if o.peak]
    assert sum(row["operations"] for row in report.rows) == len(products)
    for row in report.rows:
        roof = min(report.summary["flops/s, dense"], row["flops/byte"] * report.summary["byte/s, DRAM"])
        assert row["flops/s"] <= roof * 1.001
    assert report.summary["flops/s, sparsest"] == 2 * report.summary["flops/s, dense"]


@pytest.mark.parametrize("arch", ["a100", "s4", "sta"])
def test_pruned_models_count_as_what_their_masks_keep(arch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 256))
    dense = quick(model, arch, example=torch.zeros(64, 512))
    sparsify_(model, "2:4")
    sparse = quick(model, arch, example=torch.zeros(64, 512))
    even = quick(model, arch, example=torch.zeros(64, 512), pattern="2:4")
    assert sum(o.useful for o in sparse.operations) * 2 == sum(o.useful for o in dense.operations)
    assert sparse.cycles == even.cycles
    assert quick(model, arch, example=torch.zeros(64, 512), batch=128).batch == 128


def test_checkpoints_are_read_as_they_are_packed(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128
    )
    model = transformers.BertModel(config)
    model.save_pretrained(tmp_path / "dense")
    sparsify_(model, "tw8@50%")
    tilewright.save(model, tmp_path / "packed")
    from_file = quick(tmp_path / "packed", "a100", batch=2, sequence=16)
    from_model = quick(model, "a100", batch=2, sequence=16)
    loaded = quick(tilewright.load(tmp_path / "packed", measure=False), "a100", batch=2, sequence=16)
    assert from_file.workload == "packed"
    useful = [o.useful for o in from_model.operations if o.useful]
    assert [o.useful for o in from_file.operations if o.useful] == useful
    assert [o.useful for o in loaded.operations if o.useful] == useful
    assert from_file.cycles == from_model.cycles
    plain = quick(str(tmp_path / "dense"), "a100", batch=2, sequence=16)
    assert sum(o.useful for o in plain.operations) > sum(useful)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: simulate("bert-base", "a1000"), r"unknown accelerator 'a1000'; did you mean 'a100'\? Expected one of 'a100', 'rtx3090'"),
        (lambda: simulate("bert-basse", "a100"), "bert-basse is neither a folder nor a known network; pass the folder"),
        (lambda: simulate(3, "a100"), "model is of type int; expected a torch module"),
        (lambda: simulate("bert-base", "s4", dtype="float16"), "s4 does not multiply float16; it takes int8, bfloat16"),
        (lambda: simulate("bert-base", "a100", fidelity="rtl"), "unknown fidelity 'rtl'; expected one of 'roofline', 'analytical', 'tiles'"),
        (lambda: simulate("bert-base", "a100", batch=0), "batch must be at least 1, got 0"),
        (
            lambda: simulate("bert-large", preset("s4").with_quantity("memories.dram.size", 1e8)),
            r"bert-large does not fit s4: .* memories.dram.size is 100,000,000; use a smaller batch",
        ),
    ],
)  # fmt: skip
def test_refusals(call, words):
    with pytest.raises(ArgumentError, match=words):
        call()


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(FormatError, match=r"has no config\.json"):
        simulate(tmp_path, "a100")


def test_a_tile_that_does_not_fit_names_the_memory():
    small = preset("a100").with_quantity("memories.shared.size", 1024)
    with pytest.raises(ArgumentError, match=r"shared.* 1024 byte"):
        simulate("bert-base", small)
