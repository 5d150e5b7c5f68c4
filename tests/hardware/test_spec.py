"""Specifications: what they say about a machine, changing one number, and errors for what cannot be built."""

import copy
import json
import pickle

import pytest

from tilewright.errors import ArgumentError
from tilewright.hardware import Memory, Operation, WeightView, assumed
from tilewright.hardware.engines import ENGINES
from tilewright.hardware.machine.presets import preset

from .machines import machine, quantity


def memories(**changes):
    fields = {"size": quantity(1 << 20), "bandwidth": quantity(1e9)} | changes
    return (Memory("dram", **fields),)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": ""}, "name is ''; it must be a non-empty string"),
        ({"engine": "loom"}, "toy: engine is 'loom'; it must be one of tensor-core, sta, s4"),
        ({"rows": quantity(0)}, "toy: rows is 0; it must be a whole number of at least 1"),
        ({"columns": quantity(2.5)}, "toy: columns is 2.5; it must be a whole number"),
        ({"cores": quantity(-1)}, "toy: cores is -1"),
        ({"chips": quantity(0)}, "toy: chips is 0"),
        ({"clock": quantity(0)}, "toy: clock is 0 Hz; it must be positive"),
        ({"macs": {}}, "toy: macs is empty"),
        ({"macs": {"int7": quantity(1)}}, "macs is 'int7'; it must be keyed by data type"),
        ({"macs": {"int8": quantity(0)}, "selectors": {}}, "macs.int8 is 0; it must be positive"),
        ({"selectors": {"int8": ((2, 6),)}}, "selectors.int8 is 2:6; it must be n:m with m a power of two"),
        ({"selectors": {"int8": ((4, 4),)}}, "selectors.int8 is 4:4; it must be n:m with 0 < n < m"),
        ({"selectors": {"int8": ((0, 4),)}}, "selectors.int8 is 0:4"),
        ({"selectors": {"int4": ((2, 4),)}}, "selectors is 'int4'; it must be keyed by data types that the machine"),
        ({"tiles": ((16, 0, 16),)}, r"tiles is \(16, 0, 16\); it must be three numbers"),
        ({"tiles": ((16, 16),)}, r"tiles is \(16, 16\)"),
        ({"memories": ()}, "memories is empty; it must be given for at least the DRAM"),
        ({"memories": memories(size=quantity(0))}, "memories.dram.size is 0; it must be positive"),
        ({"memories": memories(bandwidth=quantity(-1))}, "memories.dram.bandwidth is -1"),
        ({"memories": memories(instances=0)}, "memories.dram.instances is 0"),
        ({"memories": memories(efficiency=quantity(1.5))}, "memories.dram.efficiency is 1.5; it must be above 0"),
        ({"costs": {"launch": quantity(-1)}}, "costs.launch is -1; it must be non-negative"),
        ({"energy": {"static": quantity(-1)}}, "energy.static is -1"),
    ],
)
def test_machines_that_cannot_be_built(changes, words):
    with pytest.raises(ArgumentError, match=words):
        machine(**changes)


def test_rates_and_peaks():
    spec = machine()
    assert float(spec.rate("int8")) == 32
    assert spec.peak("int8") == 2 * 32 * 2 * 1e9
    assert spec.peak("int8", 0.5) == 2 * spec.peak("int8")
    assert machine(chips=quantity(3)).peak("int8") == 3 * spec.peak("int8")
    assert spec.types == ("int8", "float16")
    with pytest.raises(ArgumentError, match="toy does not multiply float32; it takes int8, float16"):
        spec.rate("float32")


@pytest.mark.parametrize(
    ("density", "executed"), [(1, 1), (0.75, 1), (0.5, 0.5), (0.5 + 1e-9, 1), (0.3, 0.5), (0.25, 0.25), (0.01, 0.25)]
)
def test_the_next_density_that_selectors_reach(density, executed):
    assert machine().executed("int8", density) == executed
    assert machine().dense().executed("int8", density) == 1


def test_memories_by_name():
    spec = machine()
    assert spec.dram is spec.memory("dram")
    with pytest.raises(ArgumentError, match="toy has no memory 'l3'; it has shared, dram"):
        spec.memory("l3")


def test_dense_twin_keeps_every_number():
    spec = machine()
    twin = spec.dense()
    assert (twin.name, dict(twin.selectors)) == ("toy-dense", {})
    assert dict(twin.quantities()) == dict(spec.quantities())


def test_every_number_can_be_replaced_and_nothing_else_moves_but_what_runs_by_the_clock():
    spec = machine()
    before = dict(spec.quantities())
    assert len(before) == 5 + 2 + 5 + 2 + 3 + 1
    for path, old in before.items():
        changed = spec.with_quantity(path, old.value * 2 if path != "memories.dram.efficiency" else 0.5)
        after = dict(changed.quantities())
        with_it = ["memories.shared.bandwidth"] if path == "clock" else []
        assert [name for name in before if before[name] != after[name]] == [path, *with_it]
        assert after[path].provenance == "derived"
        assert after[path].certain
        assert after[path].unit == old.unit
        assert spec.digest() != changed.digest()
        # Values, not the note of where they came from: setting the old number back gives the old machine.
        back = changed.with_quantity(path, old.value)
        assert {name: q.value for name, q in back.quantities()} == {name: q.value for name, q in before.items()}
    assert dict(spec.quantities()) == before


@pytest.mark.parametrize("arch", ["a100", "rtx3090", "s4", "sta"])
@pytest.mark.parametrize("factor", [0.5, 1.3])
def test_memories_on_the_chip_run_by_the_clock(arch, factor):
    spec = preset(arch)
    other = spec.with_quantity("clock", factor * float(spec.clock))
    for before, after in zip(spec.memories, other.memories, strict=True):
        share = 1 if before.name == "dram" else factor
        ends = zip(
            (float(before.bandwidth), *before.bandwidth.interval),
            (float(after.bandwidth), *after.bandwidth.interval),
            strict=True,
        )
        assert all(b == pytest.approx(share * a) for a, b in ends)
        assert before.bandwidth.provenance == after.bandwidth.provenance
    # A product that no DRAM binds takes the same cycles at any clock.
    fc = Operation("fc", "linear", M=4096, N=4096, K=4096, weight=WeightView.dense(4096, 4096))
    slow = spec.with_quantity("memories.dram.bandwidth", 1e15).with_quantity("costs.launch", 0)
    times = [
        ENGINES[spec.engine](s, fc, spec.types[0]).cycles
        for s in (slow, slow.with_quantity("clock", factor * float(spec.clock)))
    ]
    assert times[0] == times[1]


@pytest.mark.parametrize(
    "path", ["speed", "macs.int4", "memories.l3.size", "memories.dram.colour", "clock.low", "name", ""]
)
def test_paths_that_lead_nowhere(path):
    with pytest.raises(ArgumentError, match=r"quantities\(\) lists the paths"):
        machine().with_quantity(path, 1.0)


def test_a_replaced_number_is_checked_like_a_given_one():
    with pytest.raises(ArgumentError, match="toy: rows is 0"):
        machine().with_quantity("rows", 0)


def test_copies_are_equal_and_hash_alike():
    spec = machine()
    for twin in (pickle.loads(pickle.dumps(spec)), copy.deepcopy(spec), machine()):
        assert twin == spec
        assert hash(twin) == hash(spec)
        assert twin.digest() == spec.digest()
    assert machine(name="other").digest() != spec.digest()


def test_it_cannot_be_changed_from_outside():
    mapping = {"launch": assumed(1e-6, "s", "round")}
    spec = machine(costs=mapping)
    mapping["launch"] = assumed(2e-6, "s", "changed behind its back")
    assert float(spec.costs["launch"]) == 1e-6
    with pytest.raises(TypeError):
        spec.costs["launch"] = mapping["launch"]


def test_plain_data_names_every_source():
    body = json.loads(json.dumps(machine().to_dict()))
    assert body["selectors"] == {"int8": ["2:4", "1:4"], "float16": ["2:4"]}
    assert all(number["source"] and number["provenance"] for number in body["quantities"].values())
    assert body["quantities"]["memories.dram.efficiency"]["high"] == 0.9
