"""S4 and the STA-like engine on any operation: sums, bounds, order, and agreement of the two levels."""

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tilewright.errors import ArgumentError
from tilewright.hardware import Operation, WeightView
from tilewright.hardware.engines import ENGINES
from tilewright.hardware.engines.memory import dram_bandwidth
from tilewright.hardware.machine.presets import preset
from tilewright.patterns import NM, Banked, TileWise

from .validation import script

MACHINES = [
    ("s4", "int8"),
    ("s4", "bfloat16"),
    ("s4-dense", "int8"),
    ("sta", "int16"),
    ("sta", "int8"),
    ("sta-dense", "int16"),
]
PATTERNS = [
    None,
    NM(2, 4),
    NM(1, 4),
    NM(3, 8),
    NM(1, 16),
    NM(3, 6),
    Banked(2),
    Banked(16),
    Banked(32),
    TileWise(16, 0.5),
]
SIZES = st.one_of(st.integers(1, 9), st.sampled_from([63, 64, 65, 127, 128, 129]), st.integers(1, 700))


def product(M, N, K, pattern=None, copies=1, steps=1):
    weight = (
        WeightView.dense(N, K) if pattern is None or pattern.refusal((N, K)) else WeightView.expected(pattern, N, K)
    )
    reads, writes = M * K * copies * steps, M * N * copies * steps
    return Operation(
        "it", "linear", M=M, N=N, K=K, copies=copies, steps=steps, weight=weight, reads=reads, writes=writes
    )


def scores(M, N, K, copies):
    return Operation("it", "matmul", M=M, N=N, K=K, copies=copies, reads=(M + N) * K * copies, writes=M * N * copies)


def run(machine, operation, fidelity="tiles"):
    spec = preset(machine[0]) if isinstance(machine[0], str) else machine[0]
    return ENGINES[spec.engine](spec, operation, machine[1], fidelity)


products = st.builds(product, SIZES, SIZES, SIZES, st.sampled_from(PATTERNS), st.integers(1, 3), st.integers(1, 3))
operations = st.one_of(products, st.builds(scores, SIZES, SIZES, SIZES, st.integers(1, 13)))


@given(st.sampled_from(MACHINES), operations)
@example(MACHINES[0], product(1, 1, 1))
@example(MACHINES[3], product(1, 1, 1))
@example(MACHINES[3], product(700, 129, 65, NM(1, 16)))
@settings(max_examples=400)
def test_every_operation_keeps_its_accounts(machine, operation):
    spec = preset(machine[0])
    result = run(machine, operation)
    assert sum(result.causes.values()) == result.cycles
    assert min(result.causes.values()) > 0
    assert result.useful == operation.useful <= result.issued <= result.peak
    lanes = float(spec.rate(machine[1])) * float(spec.cores)
    seconds = result.cycles / float(spec.clock)
    roofline = max(result.issued / lanes / float(spec.clock), result.bytes.get("dram", 0) / dram_bandwidth(spec))
    assert seconds >= roofline * (1 - 1e-9)
    assert result.causes.get("useful", 0) == int(operation.useful / lanes)
    assert all(value > 0 for value in result.joules.values())


@given(st.sampled_from(MACHINES), operations)
@settings(max_examples=300)
def test_the_closed_form_stays_near_the_events_and_never_above(machine, operation):
    tiles, closed = run(machine, operation), run(machine, operation, "analytical")
    assert closed.cycles <= tiles.cycles
    assert tiles.cycles - closed.cycles <= max(0.05 * tiles.cycles, 8)
    assert closed.bytes == tiles.bytes
    assert closed.issued == tiles.issued


@given(
    st.sampled_from(MACHINES),
    SIZES,
    SIZES,
    SIZES,
    st.sampled_from(PATTERNS),
    st.sampled_from("MNK"),
    st.integers(1, 300),
)
@settings(max_examples=300)
def test_more_work_never_takes_less_time(machine, M, N, K, pattern, axis, more):
    small = {"M": M, "N": N, "K": K}
    large = {**small, axis: small[axis] + more}
    if pattern is not None and (pattern.refusal((N, K)) or pattern.refusal((large["N"], large["K"]))):
        pattern = None
    assert (
        run(machine, product(**small, pattern=pattern)).cycles <= run(machine, product(**large, pattern=pattern)).cycles
    )


@pytest.mark.parametrize(
    ("machine", "patterns"),
    [(MACHINES[0], [Banked(r) for r in (2, 4, 8, 16, 32)]), (MACHINES[3], [NM(n, 8) for n in (4, 2, 1)])],
)
def test_sparser_weights_are_faster_and_never_beyond_the_ideal(machine, patterns):
    dense = run(machine, product(512, 2048, 2048)).cycles
    before = dense
    for pattern in patterns:
        sparse = run(machine, product(512, 2048, 2048, pattern)).cycles
        assert before > sparse >= dense * pattern.density * 0.99
        before = sparse


@pytest.mark.parametrize("machine", MACHINES, ids=str)
def test_slower_memory_never_helps(machine):
    spec = preset(machine[0])
    slow = spec.with_quantity("memories.dram.bandwidth", float(spec.dram.bandwidth) / 8)
    for operation in (product(1, 3000, 3000), product(4096, 512, 512), product(70, 70, 70, copies=5)):
        assert run(machine, operation).cycles <= run((slow, machine[1]), operation).cycles
    assert run((slow, machine[1]), product(1, 3000, 3000)).causes["bandwidth"] > 0


@pytest.mark.parametrize(
    "machine", [("s4", "int8"), ("s4-dense", "int8"), ("sta", "int16"), ("sta-dense", "int16")], ids=str
)
def test_both_levels_agree_on_every_layer_of_two_networks(machine):
    shapes = script("_shapes")
    worst = {"compute": 0.0, "memory": 0.0}
    patterns = (
        (None, Banked(4), Banked(16), Banked(32))
        if machine[0].startswith("s4")
        else (None, NM(2, 4), NM(2, 8), NM(1, 8))
    )
    for pattern in patterns:
        for batch in (1, 8):
            network = [*shapes.known("bert-base", batch, pattern, 384), *shapes.known("resnet50", batch, pattern)]
            for operation in (o for o in network if o.is_product):
                tiles, closed = run(machine, operation), run(machine, operation, "analytical")
                bound = "memory" if tiles.causes.get("bandwidth", 0) > 0.05 * tiles.cycles else "compute"
                worst[bound] = max(worst[bound], abs(closed.cycles / tiles.cycles - 1))
    assert worst["compute"] <= 0.01
    assert worst["memory"] <= 0.05


def test_patterns_that_selectors_do_not_take_run_dense_and_say_so():
    for machine, pattern in (
        (MACHINES[0], TileWise(16, 0.5)),
        (MACHINES[3], NM(3, 6)),
        (MACHINES[3], NM(4, 64)),
        (MACHINES[2], Banked(8)),
    ):
        sparse, dense = product(256, 512, 768, pattern), product(256, 512, 768)
        result = run(machine, sparse)
        assert result.cycles == run(machine, dense).cycles
        assert result.note.startswith("dense: ")
        assert str(pattern) in result.note


def test_s4_runs_finer_patterns_at_the_step_above():
    two_four, three_sixteen = (
        run(MACHINES[0], product(512, 512, 1024, NM(2, 4))),
        run(MACHINES[0], product(512, 512, 1024, NM(3, 16))),
    )
    assert two_four.note == "2:4: 2x, 32 of every 64"
    assert three_sixteen.note == "3:16: 4x, 16 of every 64"
    assert 0 <= three_sixteen.causes["density step"] - 512 * 512 * 1024 // 64 * (16 - 12) // 16384 <= 2  # and rounding


def test_weights_of_s4_are_stored_with_positions_or_masks():
    s4 = preset("s4")
    sparse = product(64, 256, 1024, Banked(16))
    assert run(MACHINES[0], sparse).bytes["dram"] == 256 * 1024 // 16 * 14 // 8
    masks = s4.with_quantity("costs.index.mask", 1)
    assert run((masks, "int8"), sparse).bytes["dram"] == 256 * 1024 // 16 * 24 // 8
    assert run(MACHINES[0], product(64, 256, 1024)).bytes["dram"] == 256 * 1024


def test_weights_of_sta_are_stored_as_bitmaps_and_values():
    assert run(MACHINES[3], product(64, 256, 1024, NM(2, 8))).bytes["dram"] == 256 * 128 * 40 // 8
    assert run(MACHINES[3], product(64, 256, 1024)).bytes["dram"] == 256 * 1024 * 2


def test_a_product_of_activations_may_come_in_either_way_round():
    assert run(MACHINES[3], scores(384, 64, 384, 12)).cycles == run(MACHINES[3], scores(64, 384, 384, 12)).cycles


def test_activations_that_do_not_fit_go_through_dram_and_weights_come_again():
    weights, activations = 1024 * 4096, 4096 * (4096 + 1024)
    operation = product(4096, 1024, 4096)
    assert run(MACHINES[0], operation).bytes["dram"] == weights
    small = preset("s4").with_quantity("memories.activations.size", 8 << 20)
    assert run((small, "int8"), operation).bytes["dram"] == weights + activations
    # half of 8 MiB holds 16 of the 64 rows of tiles, so there are 4 blocks of tokens
    smaller = small.with_quantity("memories.weights.size", 1 << 20)
    assert run((smaller, "int8"), operation).bytes["dram"] == 4 * weights + activations


def test_a_stage_of_a_recurrent_network_waits_for_the_one_before():
    single, ten = run(MACHINES[3], product(1, 512, 512)), run(MACHINES[3], product(1, 512, 512, steps=10))
    assert ten.causes["fill and drain"] >= 9 * single.causes["fill and drain"]
    assert ten.bytes["dram"] == single.bytes["dram"]  # weights stay on the chip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"drop": "lanes"}, "costs has no lanes"),
        ({"path": "costs.window", "value": 12}, "power of two"),
        ({"path": "rows", "value": 16}, "macs.int16 is 2048"),
        ({"path": "costs.lanes", "value": 32}, "at least its lanes"),
    ],
)
def test_sta_machines_that_cannot_be_built_are_refused(changes, words):
    def build_and_run():
        spec = preset("sta")
        if "path" in changes:
            spec = spec.with_quantity(changes["path"], changes["value"])
        costs = {name: cost for name, cost in spec.costs.items() if name != changes.get("drop")}
        run((replace(spec, costs=costs), "int16"), product(8, 8, 8))

    with pytest.raises(ArgumentError, match=words):
        build_and_run()


@pytest.mark.parametrize("machine", [("s4", "int8"), ("s4-dense", "int8"), ("sta", "int16"), ("a100", "float16")])
@pytest.mark.parametrize("pattern", [NM(2, 3), NM(3, 8), TileWise(16, 0.75)])
def test_zeros_that_selectors_cannot_skip_are_a_density_step_and_no_padding(machine, pattern):
    if machine[0] == "a100" and isinstance(pattern, TileWise):
        return  # it runs tiles as products of their own
    result = run(machine, product(256, 768, 768 * 2, pattern))  # every tile, bank and window full
    dense = run(machine, product(256, 768, 768 * 2))
    lanes = float(preset(machine[0]).rate(machine[1])) * float(preset(machine[0]).cores)
    step = result.causes["density step"]
    assert result.causes.get("padding", 0) <= 2
    assert step > 0
    if result.note.startswith("dense"):
        assert (result.cycles, result.issued) == (dense.cycles, dense.issued)
        assert abs(step - (dense.useful - result.useful) / lanes) <= 3


def test_engines_refuse_what_they_do_not_have():
    with pytest.raises(ArgumentError, match="does not multiply float16"):
        run(("s4", "float16"), product(8, 8, 8))
    with pytest.raises(ArgumentError, match="unknown fidelity 'roofline'; expected one of 'analytical', 'tiles'"):
        run(MACHINES[0], product(8, 8, 8), "roofline")
    with pytest.raises(ArgumentError, match="unknown engine 'tpu'; expected one of 'tensor-core', 'sta', 's4'"):
        ENGINES["tpu"]
    assert set(ENGINES) == {"tensor-core", "sta", "s4"}


def test_presets_are_found_by_name_and_others_name_the_nearest():
    assert [int(preset(name).chips) for name in ("s4", "s10", "s30", "s40")] == [1, 2, 3, 4]
    assert preset("s30-dense").name == "s30-dense"
    assert not preset("sta-dense").selectors
    with pytest.raises(ArgumentError, match=r"unknown accelerator 's31'; did you mean 's[13]0'"):
        preset("s31")
