"""The analytical level against the tile events over whole networks, within the promised error, and its records."""

import pytest

from tilewright.hardware.machine.presets import PRESETS
from tilewright.records import read_records

from .validation import script

# Chips of the S4 family are alike; the records hold all presets.
MACHINES = ("a100", "rtx3090", "t4", "v100", "s4", "sta", "a100-dense", "sta-dense")


@pytest.mark.parametrize("network", ["bert-base", "resnet50"])
@pytest.mark.parametrize("machine", MACHINES)
def test_every_layer_is_as_close_as_promised(machine, network):
    fidelity = script("fidelity")
    compared = list(fidelity.layers(machine, network))
    assert len(compared) > 1400
    assert [layer for layer in compared if abs(layer.error) > layer.allowed] == []
    assert 0 < sum(layer.memory for layer in compared) < len(compared)


def test_the_levels_do_differ():
    compared = list(script("fidelity").layers("rtx3090", "resnet50"))
    assert max(abs(layer.error) for layer in compared) > 0.01


def test_the_records_cover_every_machine_and_none_is_beyond_its_promise():
    fidelity = script("fidelity")
    records = {record.name: record for record in read_records(fidelity.RECORDS)}
    assert set(records) == {f"{network} on {machine}" for network in fidelity.NETWORKS for machine in PRESETS}
    for record in records.values():
        assert record.checked
        assert record.extra["worst, compute"] <= fidelity.COMPUTE
        assert record.extra["worst, memory"] <= fidelity.MEMORY
        assert sum(record.extra["histogram"]) == record.extra["layers"]
