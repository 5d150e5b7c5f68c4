"""Energy and traffic computed by hand: each ledger is literal numbers next to their sum, so that no share can go missing."""

from dataclasses import replace

import numpy as np
import pytest

from tilewright.hardware import Operation, WeightView
from tilewright.hardware.engines.account import Work, account
from tilewright.hardware.engines.s4 import kept_per_bank
from tilewright.hardware.engines.tensor_core.account import joules
from tilewright.hardware.engines.tensor_core.lowering import lower
from tilewright.hardware.engines.tensor_core.tiling import plan
from tilewright.hardware.machine.presets import preset
from tilewright.hardware.schedule import Timing
from tilewright.hardware.simulate import simulate
from tilewright.patterns import NM

from .machines import machine, quantity

ENERGY = {
    "mac.int8": quantity(2e-12, "J/MAC"),
    "byte.dram": quantity(1e-10, "J/byte"),
    "byte.shared": quantity(5e-12, "J/byte"),
    "static": quantity(3, "W"),
}


def test_a_product_of_the_array_engines_is_charged_for_all_it_issues_and_moves():
    operation = Operation("fc", "linear", M=10, N=8, K=60, weight=WeightView.dense(8, 60))
    work = Work(issued=6000, ran=5000, lost={}, onchip={"shared": 700})
    result = account(machine(energy=ENERGY), operation, "int8", Timing(200, 150, 30, 0, 20), work, moved=900)
    assert result.cycles == 1200  # launch: 1 us at 1 GHz is 1,000 cycles; and the timing's 200
    assert result.joules == pytest.approx(
        {
            "mac": 12e-9,  # 6,000 issued x 2 pJ: padding switches the lanes as real work does
            "dram": 90e-9,  # 900 bytes x 100 pJ
            "shared": 3.5e-9,  # 700 bytes x 5 pJ
            "static": 3.6e-6,  # 1,200 cycles at 1 GHz are 1.2 us x 3 W: launch included
        },
        rel=1e-12,
        abs=0,
    )
    # Lanes: 2 cores x 32. Useful 4,800 / 64 = 75 cycles, ran beyond that 200 / 64, padding 1,000 / 64 = 15 and what rounding leaves.
    assert result.causes == {"useful": 75, "density step": 3, "padding": 72, "bandwidth": 50, "launch": 1000}
    assert result.bytes == {"dram": 900, "shared": 700}


def test_a_part_without_an_energy_is_not_charged():
    operation = Operation("fc", "linear", M=10, N=8, K=60, weight=WeightView.dense(8, 60))
    work = Work(issued=6000, ran=5000, lost={}, onchip={"shared": 700})
    energy = {name: value for name, value in ENERGY.items() if name in ("byte.dram", "static")}
    result = account(machine(energy=energy), operation, "int8", Timing(200, 150, 30, 0, 20), work, moved=900)
    assert set(result.joules) == {"dram", "static"}


def test_a_product_of_the_gpu_is_charged_by_its_own_ledger():
    energy = ENERGY | {"byte.l2": quantity(4e-12, "J/byte")}
    moved = {"dram": 900, "l2": 1000, "shared": 700}
    assert joules(machine(energy=energy), "int8", 6000, moved, 1200) == pytest.approx(
        {"mac": 12e-9, "dram": 90e-9, "l2": 4e-9, "shared": 3.5e-9, "static": 3.6e-6}, rel=1e-12, abs=0
    )
    assert "mac" not in joules(machine(energy=energy), "int8", 0, moved, 1200)


SIDE = 8192
WHOLE = SIDE * SIDE * 2  # bytes of one float16 operand: 134,217,728, more than half of a100's 40 MiB of L2


@pytest.mark.parametrize(
    ("tokens", "outputs", "inputs", "reads"),
    [
        # 108 cores; tiles of 128 x 256: 64 down, 32 across. Neither operand fits. In flight h x 108 // h tiles:
        # the left is read ceil(32 / width) times, the right ceil(64 / height) times. h = 1: 1 + 64, 2: 1 + 32, 4: 2 + 16,
        # 8: 3 + 8, 16: 6 + 4, 32: 11 + 2, 64: 32 + 1. The least is 10.
        (SIDE, SIDE, SIDE, 10 * WHOLE),
        # 1,024 tokens: 16 MiB, which half of L2 holds, so it is read once; the weight once for each row of rectangles of the 8 down.
        # h = 8 covers all of them: once.
        (1024, SIDE, SIDE, WHOLE // 8 + WHOLE),
        # 1,024 outputs: the weight is read once, the tokens ceil(4 / width) times: once.
        (SIDE, 1024, SIDE, WHOLE + WHOLE // 8),
        # 64 inputs: both fit.
        (SIDE, SIDE, 64, 2 * WHOLE // 128),
    ],
)
def test_traffic_of_a_gpu_is_that_of_the_best_rectangle(tokens, outputs, inputs, reads):
    a100 = preset("a100")
    assert (int(a100.cores), float(a100.memory("l2").size)) == (108, 40 << 20)
    operation = Operation("fc", "linear", M=tokens, N=outputs, K=inputs, weight=WeightView.dense(outputs, inputs))
    tiling = plan(a100, operation, lower(a100, operation, "float16"), "float16", (128, 256, 32))
    assert tiling.dram_bytes == reads + tokens * outputs * 2


@pytest.mark.parametrize(("tokens", "again"), [(64 * 128, 1), (64 * 128 + 1, 2), (128 * 128, 2), (128 * 128 + 1, 3)])
def test_a_weight_comes_again_for_each_rectangle_down(tokens, again):
    """64 cores, 64 x 64 inputs of 2 bytes: half of a tiny L2 holds the few tokens' inputs of a copy, and not the weight."""
    a100 = replace(preset("a100"), cores=quantity(64))
    small = tuple(
        replace(m, size=quantity(2 * tokens * 64 * 2, "byte")) if m.name == "l2" else m for m in a100.memories
    )
    spec, outputs = replace(a100, memories=small), 2 * 128 * 128
    operation = Operation("fc", "linear", M=tokens, N=outputs, K=64, weight=WeightView.dense(outputs, 64))
    moved = plan(spec, operation, lower(spec, operation, "float16"), "float16", (128, 256, 32)).dram_bytes
    assert moved == tokens * 64 * 2 + again * outputs * 64 * 2 + tokens * outputs * 2


@pytest.mark.parametrize("arch", ["a100", "s4", "s30", "sta"])
@pytest.mark.parametrize("overlap", [None, 0.0, 0.3, 1.0])
def test_what_a_chip_takes_all_the_time_is_charged_for_the_time_that_passes(arch, overlap):
    """Vector work that hides behind products is not charged twice: the shares add up to watts times seconds, of all chips."""
    spec = preset(arch)
    if overlap is not None:
        spec = replace(spec, costs={**spec.costs, "overlap.default": quantity(overlap)})
    run = simulate("bert-base", spec, batch=6, interval=False)
    watts = float(spec.energy["static"]) * int(spec.chips)
    assert sum(o.joules.get("static", 0.0) for o in run.operations) == pytest.approx(watts * run.seconds)
    if arch != "a100" and overlap == 0.3:
        assert any(o.hidden and o.cycles for o in run.operations)  # in part: their share of the watts is a part too


def most_of_window(start, bank, n, m):
    """Count what a window keeps at most under n:m, group by group."""
    position = np.arange(start, start + bank)
    return sum(min(n, int(count)) for count in np.unique(position // m, return_counts=True)[1])


@pytest.mark.parametrize("bank", [2, 4, 16, 64])
@pytest.mark.parametrize("m", [1, 2, 3, 5, 7, 12, 48, 63, 64, 65, 96, 128, 200])
def test_a_bank_keeps_at_most_what_its_groups_allow(bank, m):
    for n in {1, 2, 3, m // 2, m} - {0}:
        if n <= m:
            most = kept_per_bank(NM(n, m), bank) if n < m else bank
            windows = [most_of_window(start, bank, n, m) for start in range(m)]
            aligned = [most_of_window(index * bank, bank, n, m) for index in range(m)]
            assert max(aligned) <= most <= bank
            if bank % m == 0 or m % bank == 0:
                assert most == max(aligned)
            elif n == 1:  # a single one in each group: the bound is the number of groups, and some window reaches it
                assert most == max(windows)


def test_banks_known_by_hand():
    assert kept_per_bank(NM(2, 4), 64) == 32  # 16 groups of 2
    assert kept_per_bank(NM(2, 128), 64) == 2  # both may lie in one half
    assert kept_per_bank(NM(100, 128), 64) == 64
    assert kept_per_bank(NM(1, 3), 64) == 22  # 1 + 21 x 3: the end of a group, and 21 whole ones
    assert kept_per_bank(NM(1, 62), 64) == 3  # 1 + 62 + 1
    assert kept_per_bank(NM(1, 63), 64) == 2  # 1 + 63
    assert kept_per_bank(None, 64) == 64
