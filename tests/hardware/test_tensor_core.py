"""The GPU engine: sums, bounds and orders that hold for every product, whatever its shape and pattern."""

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tilewright.errors import ArgumentError
from tilewright.formats import pack
from tilewright.hardware import Operation, WeightView
from tilewright.hardware.engines import ENGINES
from tilewright.hardware.engines.tensor_core import choose, run, run_kernels
from tilewright.hardware.engines.tensor_core.instructions import available, issue_cycles
from tilewright.hardware.engines.tensor_core.lowering import contains, lower
from tilewright.hardware.machine.presets import preset
from tilewright.hardware.machine.spec import BYTES
from tilewright.patterns import NM, Block, TileElementWise, TileVectorWise, TileWise, Unstructured, mask

GPUS = ["a100", "rtx3090", "t4", "v100"]
TYPES = [(gpu, dtype) for gpu in GPUS for dtype in preset(gpu).types]
SIDES = st.integers(1, 700) | st.sampled_from([1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 768, 3072, 4097])


def product(M, N, K, pattern=None, **others):
    weight = WeightView.dense(N, K) if pattern is None else WeightView.expected(pattern, N, K)
    return Operation("product", "linear", M=M, N=N, K=K, weight=weight, **others)


def pruned(N, K, pattern, M=64, seed=0):
    weight = np.random.default_rng(seed).standard_normal((N, K)).astype(np.float32)
    kept = mask(pattern, np.abs(weight))
    return Operation(
        "product", "linear", M=M, N=N, K=K, weight=WeightView.of(pack(np.where(kept, weight, 0), pattern, kept))
    )


def check(spec, operation, dtype, result):
    assert sum(result.causes.values()) == result.cycles
    assert min(result.causes.values()) >= 0
    assert operation.useful == result.useful <= result.issued <= result.peak
    assert result.peak <= result.cycles * float(spec.cores) * float(spec.rate(dtype)) + 1
    lanes = float(spec.cores) * float(spec.rate(dtype))
    assert abs(result.causes.get("useful", 0) - operation.useful / lanes) <= 1
    kept = operation.weight.kept if operation.weight is not None else operation.N * operation.K
    least = BYTES[dtype] * (kept if operation.M else 0) / float(spec.dram.bandwidth) * float(spec.clock)
    assert result.cycles >= max(operation.useful / lanes, least)
    assert all(count > 0 for count in result.bytes.values())
    assert all(joules >= 0 for joules in result.joules.values())


@given(st.sampled_from(TYPES), SIDES, SIDES, SIDES, st.integers(1, 5), st.sampled_from(["analytical", "tiles"]))
def test_any_dense_product_adds_up_and_stays_below_the_peak(machine, M, N, K, copies, fidelity):
    spec, dtype = preset(machine[0]), machine[1]
    operation = product(M, N, K, copies=copies)
    check(spec, operation, dtype, run(spec, operation, dtype, fidelity))


@given(
    st.sampled_from(TYPES),
    SIDES,
    st.integers(2, 700),
    st.integers(3, 700),
    st.sampled_from(["2:4", "1:4", "2:8", "1:2", "32:64"]),
)
def test_n_of_m_adds_up_and_never_beats_its_ideal(machine, M, N, K, text):
    n, m = map(int, text.split(":"))
    assume(n < K)
    spec, dtype = preset(machine[0]), machine[1]
    sparse, dense = product(M, N, K, NM(n, m)), product(M, N, K)
    result = run(spec, sparse, dtype, "analytical")
    check(spec, sparse, dtype, result)
    step = lower(spec, sparse, dtype).executed
    assert step in (0.5, 1.0)
    assert result.cycles >= step * run(spec, dense, dtype, "analytical").cycles - 1


@given(st.sampled_from(TYPES), SIDES, SIDES, SIDES, st.sampled_from("MNK"), st.integers(1, 300), st.booleans())
def test_more_work_never_takes_less_time(machine, M, N, K, side, more, sparse):
    spec, dtype = preset(machine[0]), machine[1]
    small = {"M": M, "N": N, "K": max(K, 4)}
    large = small | {side: small[side] + more}
    pattern = NM(2, 4) if sparse else None
    times = [run(spec, product(**sides, pattern=pattern), dtype, "analytical").cycles for sides in (small, large)]
    assert times[0] <= times[1]


@settings(max_examples=60)
@given(st.sampled_from(TYPES), SIDES, SIDES, SIDES, st.integers(1, 40), st.sampled_from([None, NM(2, 4)]))
def test_closed_form_and_events_agree(machine, M, N, K, copies, pattern):
    spec, dtype = preset(machine[0]), machine[1]
    operation = product(M, N, max(K, 4), pattern, copies=copies)
    analytical, tiles = (run(spec, operation, dtype, fidelity).cycles for fidelity in ("analytical", "tiles"))
    assert abs(analytical - tiles) <= 0.01 * tiles + 2


@given(st.sampled_from(TYPES), SIDES, SIDES, SIDES, st.sampled_from([None, NM(2, 4), TileWise(32, 0.7)]))
def test_the_causes_are_those_of_the_launch_and_the_tiles(machine, M, N, K, pattern):
    spec, dtype = preset(machine[0]), machine[1]
    operation = product(M, N, max(K, 4), pattern)
    lowered, _, elapsed = choose(spec, operation, dtype)
    launches = float(spec.costs["launch"]) + (lowered.launches - 1) * float(spec.costs["stream launch"])
    cycles = run_kernels(spec, operation, dtype, "analytical").cycles
    assert abs(cycles - elapsed.total - launches * float(spec.clock)) <= 2 + 1e-6 * cycles


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize(
    "pattern",
    [
        TileWise(64, 0.6),
        TileElementWise(64, 0.6, 0.05),
        TileVectorWise(64, 0.7),
        Block(32, 32, 0.5),
        Unstructured(0.9),
        NM(2, 4, tile=4),
    ],
    ids=str,
)
def test_real_masks_run_with_their_own_counts(gpu, pattern):
    spec = preset(gpu)
    operation = pruned(333, 530, pattern)
    results = [run(spec, operation, "float16", fidelity) for fidelity in ("analytical", "tiles")]
    for result in results:
        check(spec, operation, "float16", result)
    assert abs(results[0].cycles - results[1].cycles) <= 0.05 * results[1].cycles


@given(
    st.sampled_from(TYPES),
    SIDES,
    SIDES,
    SIDES,
    st.sampled_from([NM(2, 4), NM(1, 4), NM(3, 8), NM(32, 64, tile=4), TileWise(32, 0.7)]),
    st.sampled_from(["analytical", "tiles"]),
)
@example(("rtx3090", "float16"), 128, 384, 1536, NM(2, 4), "tiles")
def test_a_pruned_layer_is_never_slower_than_the_dense_one(machine, M, N, K, pattern, fidelity):
    spec, dtype = preset(machine[0]), machine[1]
    pruned, dense = (product(M, N, max(K, 64), which) for which in (pattern, None))
    result, whole = (run(spec, operation, dtype, fidelity) for operation in (pruned, dense))
    ran = run_kernels(spec, pruned, dtype, fidelity)
    assert result.cycles == min(ran.cycles, whole.cycles)
    assert result.useful == ran.useful <= result.issued <= result.peak
    if whole.cycles < ran.cycles:
        assert result.bytes == whole.bytes
        assert result.note.startswith(f"{whole.note}; {ran.note} would take")


def test_unbalanced_tiles_leave_cores_waiting():
    spec = preset("a100")
    counts = np.array([1000] + 11 * [100])
    view = WeightView((12 * 128, 1024), TileWise(128, 0.8), 128, counts, np.full(12, 128), 12 * 128, real=True)
    even = WeightView((12 * 128, 1024), TileWise(128, 0.8), 128, np.full(12, 175), np.full(12, 128), 12 * 128)
    skewed, level = (
        run_kernels(spec, Operation("x", "linear", M=9 * 128, N=12 * 128, K=1024, weight=w), "float16")
        for w in (view, even)
    )
    assert skewed.useful == level.useful
    assert skewed.cycles > level.cycles
    assert skewed.causes["imbalance"] > 3 * level.causes.get("imbalance", 0)


def test_patterns_run_as_the_selectors_allow():
    a100 = preset("a100")
    ran = {str(p): lower(a100, product(64, 128, 128, p), "float16") for p in (NM(2, 4), NM(1, 4), NM(2, 8), NM(4, 8))}
    assert {text: how.executed for text, how in ran.items()} == {"2:4": 0.5, "1:4": 0.5, "2:8": 0.5, "4:8": 1.0}
    assert "2:4, which holds 1:4" in ran["1:4"].note
    assert "4:8 does not fit into 2:4" in ran["4:8"].note
    assert "no selectors" in lower(preset("t4"), product(64, 128, 128, NM(2, 4)), "float16").note
    assert "in pairs" in lower(a100, product(64, 128, 128, NM(4, 8)), "int4").note
    assert lower(a100, product(64, 128, 128, NM(1, 2)), "tf32").executed == 0.5
    assert "no path for any@90%" in lower(a100, pruned(64, 64, Unstructured(0.9)), "float16").note
    assert lower(a100, pruned(256, 256, TileVectorWise(64, 0.75)), "float16").executed == 0.5
    twin = preset("a100-dense")
    assert lower(twin, product(64, 128, 128, NM(2, 4)), "float16").executed == 1.0


@given(st.integers(1, 4), st.sampled_from([2, 4, 8]), st.integers(1, 12), st.integers(2, 12), st.integers(0, 5))
def test_containment_holds_for_every_mask_that_is_drawn(n, m, inner, width, seed):
    assume(inner <= width and n <= m)
    pattern = NM(inner, width)
    row = np.random.default_rng(seed).random((1, m * width * 4))
    kept = mask(pattern, row)[0].reshape(-1, m).sum(axis=1)
    if contains((n, m), pattern):
        assert kept.max() <= n


def test_a_launch_for_each_tile_of_tile_wise_weights():
    spec = preset("v100")
    operation = product(12800, 3072, 768, TileWise(128, 0.75))
    result = run(spec, operation, "float16")
    launches = float(spec.costs["launch"]) + 11 * float(spec.costs["stream launch"])
    assert result.causes["launch"] == pytest.approx(launches * float(spec.clock), abs=1)
    assert result.causes["index"] > 0


def test_the_small_sparse_instruction_falls_short_on_a100_only():
    rates = {}
    for name in ("a100", "rtx3090"):
        spec = preset(name)
        ratio = []
        for sparse in (False, True):
            cycles = issue_cycles(spec, "float16", (128, 128), 16, (2, 2), 2, sparse)
            ratio.append(128 * 128 * 16 / cycles / float(spec.rate("float16")))
        rates[name] = ratio
    assert rates["a100"] == pytest.approx([1.0, 1.3])
    assert rates["rtx3090"] == pytest.approx([1.0, 2.0])


def test_one_warp_of_one_fragment_waits_for_the_latency():
    spec = preset("a100")
    assert issue_cycles(spec, "float16", (32, 16), 16, (2, 2), 1, False) == pytest.approx(24.7)


@pytest.mark.parametrize(
    ("gpu", "dtype", "shape"),
    [("v100", "float16", (16, 16, 4)), ("t4", "int8", (8, 8, 16)), ("a100", "int8", (16, 8, 32))],
)
def test_each_generation_has_its_own_instructions(gpu, dtype, shape):
    assert shape in {i.shape for i in available(preset(gpu), dtype, False)}
    assert bool(available(preset(gpu), dtype, True)) == (gpu == "a100")


def test_recurrent_steps_follow_each_other():
    spec = preset("a100")
    one = Operation("cell", "recurrent", M=8, N=512, K=512, weight=WeightView.dense(512, 512))
    ten = Operation("cell", "recurrent", M=8, N=512, K=512, weight=WeightView.dense(512, 512), steps=10)
    a, b = (run(spec, operation, "float16").cycles for operation in (one, ten))
    assert abs(b - 10 * a) <= 10


def test_vector_operations_take_their_bytes_and_a_launch():
    spec = preset("a100")
    softmax = Operation("p", "softmax", row=384, reads=10**8, writes=10**8)
    result = run(spec, softmax, "float16")
    seconds = 4e8 / (2039e9 * 0.88) + 4e-6
    assert result.cycles / float(spec.clock) == pytest.approx(seconds, rel=1e-3)
    assert set(result.causes) == {"vector", "launch", "refresh"}
    assert result.causes["refresh"] / (result.cycles - result.causes["launch"]) == pytest.approx(350 / 3900, rel=0.01)
    gelu = Operation("g", "elementwise", function="gelu", reads=1000, writes=1000)
    assert run(preset("t4"), gelu, "int8").cycles == 0
    assert run(spec, gelu, "float16").causes["launch"] > 0


def test_zero_kept_weights_cost_a_launch_only():
    spec = preset("a100")
    view = WeightView((64, 64), TileWise(16, 0.5), 16, np.zeros(4, np.int64), np.full(4, 16), 64)
    result = run(spec, Operation("x", "linear", M=5, N=64, K=64, weight=view), "float16")
    assert set(result.causes) == {"launch"}
    assert result.issued == 0


def test_types_the_machine_lacks_are_refused():
    with pytest.raises(ArgumentError, match="t4 does not multiply bfloat16"):
        run(preset("t4"), product(4, 4, 4), "bfloat16")


def test_the_largest_tile_that_leaves_no_core_idle_is_preferred():
    spec = preset("a100")
    assert choose(spec, product(128, 768, 768), "float16")[1].shape[:2] == (64, 64)
    large = choose(spec, product(8192, 8192, 8192), "float16")[1].shape
    assert large[0] * large[1] >= 128 * 128


@pytest.mark.parametrize("gpu", GPUS)
def test_a_full_load_stays_below_the_power_limit(gpu):
    spec = preset(gpu)
    for dtype in spec.types:
        result = run(spec, product(8192, 8192, 8192), dtype, "analytical")
        watts = sum(result.joules.values()) / (result.cycles / float(spec.clock))
        assert 0.25 * float(spec.limits["power"]) < watts <= float(spec.limits["power"]), dtype


@pytest.mark.parametrize(
    ("dtype", "dense"), [("tf32", 156e12), ("float16", 312e12), ("bfloat16", 312e12), ("int8", 624e12)]
)
def test_a100_peaks_are_the_published_ones(dtype, dense):
    spec = preset("a100")
    boosted = spec.with_quantity("clock", float(spec.limits["boost"]))
    assert boosted.peak(dtype) == pytest.approx(dense, rel=2e-3)
    assert boosted.peak(dtype, 0.5) == pytest.approx(2 * dense, rel=2e-3)


def test_engines_finds_it_by_name():
    assert ENGINES["tensor-core"] is run


@given(
    st.sampled_from(TYPES),
    SIDES,
    SIDES,
    SIDES,
    st.sampled_from([None, NM(2, 4), TileWise(32, 0.7), TileWise(128, 0.9)]),
)
def test_no_product_is_faster_than_its_bytes_through_dram(machine, M, N, K, pattern):
    spec, dtype = preset(machine[0]), machine[1]
    operation = product(M, N, max(K, 4), pattern, reads=M * max(K, 4), writes=M * N)
    moved = BYTES[dtype] * (operation.reads + operation.writes + operation.weight.kept)
    result = run(spec, operation, dtype, "analytical")
    assert result.cycles >= moved / float(spec.dram.bandwidth) * float(spec.clock)
    assert result.bytes["dram"] >= int(moved)
