"""What the engines take from the DRAM model: the bandwidth of long streams, and its share of refreshes."""

from dataclasses import replace

import pytest

from tilewright.errors import ArgumentError
from tilewright.hardware import Operation, WeightView, roofline
from tilewright.hardware.dram import DRAMS, Dram, long_stream
from tilewright.hardware.dram import preset as dram_preset
from tilewright.hardware.engines import ENGINES
from tilewright.hardware.engines.memory import dram_bandwidth, refresh_share
from tilewright.hardware.machine.presets import preset


@pytest.mark.parametrize("machine", ["s4", "sta", "a100", "rtx3090", "t4", "v100"])
@pytest.mark.parametrize("fidelity", ["analytical", "tiles", "roofline"])
def test_waiting_for_dram_is_in_part_its_refresh(machine, fidelity):
    spec = preset(machine)
    share = refresh_share(spec)
    assert 0.04 < share < 0.1
    # Few tokens: fetching weights is what takes the time.
    waits = Operation(
        "fc", "linear", M=4, N=4096, K=4096, weight=WeightView.dense(4096, 4096), reads=1 << 14, writes=1 << 14
    )
    engine = roofline.run if fidelity == "roofline" else ENGINES[spec.engine]
    result = engine(spec, waits, spec.types[0], fidelity)
    bandwidth, refresh = result.causes["bandwidth"], result.causes["refresh"]
    assert bandwidth > (0.3 if machine in ("s4", "sta") or fidelity == "roofline" else 0) * result.cycles
    assert abs(refresh - share * (bandwidth + refresh)) <= 2
    assert sum(result.causes.values()) == result.cycles
    unknown = replace(spec, memories=(*spec.memories[:-1], replace(spec.dram, kind="")))
    still = engine(unknown, waits, spec.types[0], fidelity)
    assert still.cycles == result.cycles
    assert abs(still.causes["bandwidth"] - bandwidth - refresh) <= 2  # each part is rounded by itself
    assert "refresh" not in still.causes


def test_dram_without_a_share_delivers_that_of_its_kind():
    spec = preset("sta")
    memory = replace(spec.dram, efficiency=None)
    peak = float(memory.bandwidth)
    for kind in DRAMS:
        machine = replace(spec, memories=(*spec.memories[:-1], replace(memory, kind=kind)))
        run_of = Dram(dram_preset(kind)).stream(1 << 32)
        assert dram_bandwidth(machine) == pytest.approx(peak * run_of.utilisation, rel=1e-4)
    bare = replace(spec, memories=(*spec.memories[:-1], replace(memory, kind="")))
    assert dram_bandwidth(bare) == peak
    with pytest.raises(ArgumentError, match=r"memories\.dram\.kind is 'hbm9'; it must be empty or one of hbm2e"):
        replace(spec, memories=(*spec.memories[:-1], replace(memory, kind="hbm9")))


@pytest.mark.parametrize("machine", ["s4", "sta", "a100", "rtx3090", "t4", "v100"])
def test_no_machine_gets_more_than_its_dram_model_delivers(machine):
    spec = preset(machine)
    assert dram_bandwidth(spec) <= 1.003 * dram_preset(spec.dram.kind).peak * long_stream(spec.dram.kind)[0]
