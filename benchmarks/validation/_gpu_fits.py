"""The constants of the GPU presets that come from published times, computed again from the points they were fitted on."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from _gpu_published import BERT_SHAPES, BY_INPUTS, QUICKSTART, SQUAD_TOKENS, T4_RATES, TILE_WISE
from _shapes import known, run, weight

from tilewright.hardware import AcceleratorSpec, Operation, WeightView, preset
from tilewright.hardware.engines import tensor_core
from tilewright.patterns import NM, TileWise


def milliseconds(spec: AcceleratorSpec, tokens: int, outputs: int, inputs: int, sparse: bool) -> float:
    """Return the time of one product in float16."""
    view = weight(outputs, inputs, NM(2, 4) if sparse else None)
    product = Operation("gemm", "linear", M=tokens, N=outputs, K=inputs, weight=view)
    return tensor_core.run_kernels(spec, product, "float16").cycles / float(spec.clock) * 1e3


def pair(M: int, N: int, K: int, kept_n: int, kept_k: int) -> tuple[Operation, Operation]:
    """Return the dense product and the one with tiles of 128 of the kept outputs, which are all that the artifact writes."""
    dense = Operation("gemm", "linear", M=M, N=N, K=K, weight=WeightView.dense(N, K))
    tiles, pattern = kept_n // 128, TileWise(128, 1 - kept_n * kept_k / (N * K))
    counts, widths = np.full(tiles, kept_k, np.int64), np.full(tiles, 128, np.int64)
    view = WeightView((N, K), pattern, 128, counts, widths, kept_n)
    return dense, replace(dense, weight=view, writes=M * kept_n)


def artifact() -> AcceleratorSpec:
    """Return the V100 with the one tile of the tile-wise artifact's CUTLASS kernel."""
    return replace(preset("v100"), tiles=((128, 128, 32),))


def synchronise(spec: AcceleratorSpec) -> float:
    """Return the seconds that waiting for the device after each launch adds: the mean over the three dense products."""
    products = [(pair(*row[:5])[0], row[5]) for row in TILE_WISE]
    rest = [
        time * 1e-6 - tensor_core.run_kernels(spec, p, "float16").cycles / float(spec.clock) for p, time in products
    ]
    return float(np.mean(rest))


def rtx3090_clock() -> float:
    """Return the clock at which two tiles of 256 x 128 on the fullest core take the slope over K of the 2:4 times at 768 outputs."""
    inputs, _, times = np.array(BY_INPUTS[768]).T
    slope = np.polyfit(inputs, times / 1e3, 1)[0]
    spec = preset("rtx3090")
    cycles = 2 * 256 * 128 * 0.5 / float(spec.rate("float16"))
    return float(cycles / slope)


def rtx3090_launch() -> float:
    """Return the launch time that makes the 2:4 times at 768 outputs right at the median."""
    spec = preset("rtx3090").with_quantity("costs.launch", 0.0)
    rest = [time - milliseconds(spec, 4096, 768, inputs, True) for inputs, _, time in BY_INPUTS[768]]
    return float(np.median(rest)) / 1e3


def sparse_tile_error(area: int) -> float:
    """Return the mean error of the 2:4 times at 768 outputs and in the BERT shapes, were the library's tile of this area."""
    spec = preset("rtx3090").with_quantity("costs.sparse tile", area)
    rows = [(768, inputs, 4096, sparse) for inputs, _, sparse in BY_INPUTS[768]]
    rows += [(outputs, inputs, tokens, sparse) for outputs, inputs, tokens, _, sparse in BERT_SHAPES]
    errors = [milliseconds(spec, tokens, outputs, inputs, True) / time - 1 for outputs, inputs, tokens, time in rows]
    return float(np.mean(np.abs(errors)))


def root(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a monotone function crosses zero, by bisection."""
    rising = function(high) > function(low)
    for _ in range(30):
        middle = (low + high) / 2
        if (function(middle) > 0) == rising:
            high = middle
        else:
            low = middle
    return (low + high) / 2


def a100_constants() -> tuple[float, float]:
    """Return the cycles of a step's barrier from the dense quick start, and with it the bytes a cycle of L2 from the 2:4 one."""
    tokens, inputs, outputs, dense, sparse = QUICKSTART
    spec = preset("a100")

    def excess(path: str, base: AcceleratorSpec, target: float, masked: bool, scale: float) -> Callable[[float], float]:
        return lambda value: (
            milliseconds(base.with_quantity(path, value * scale), tokens, outputs, inputs, masked) - target
        )

    step = root(excess("costs.step", spec, dense, False, 1.0), 0.0, 400.0)
    held = spec.with_quantity("costs.step", step)
    rate = root(excess("memories.l2.bandwidth", held, sparse, True, float(spec.clock)), 2000.0, 5120.0)
    return step, rate


def v100_step() -> float:
    """Return the cycles of a step's barrier from the slope over K of the dense products with 768 outputs."""
    (_, _, short, _, _, fast, _), (_, _, long, _, _, slow, _), _ = TILE_WISE
    spec = artifact()
    tiles = 100 * 6
    waves = -(-tiles // int(spec.cores))
    steps = (long - short) // 32
    return (slow - fast) * 1e-6 * float(spec.clock) / waves / steps - 128 * 128 * 32 / float(spec.rate("float16"))


def t4_rate(spec: AcceleratorSpec, model: str) -> float:
    """Return the samples a second of an MLPerf network in INT8, in batches of 128 pictures or 64 sequences that are not padded."""
    batch, tokens = (64, SQUAD_TOKENS) if model == "bert-large" else (128, None)
    return batch / run(spec, known(model, batch, None, tokens), "int8").seconds


def t4_clock() -> float:
    """Return the clock that makes the rate of BERT-large right; on-chip memories run by it."""
    spec = preset("t4")

    def excess(clock: float) -> float:
        l2 = float(spec.memory("l2").bandwidth) / float(spec.clock) * clock
        shared = float(spec.memory("shared").bandwidth) / float(spec.clock) * clock
        machine = spec.with_quantity("clock", clock).with_quantity("memories.l2.bandwidth", l2)
        machine = machine.with_quantity("memories.shared.bandwidth", shared)
        return t4_rate(machine, "bert-large") - T4_RATES["bert-large"]

    return root(excess, 0.5e9, 1.6e9)


def constants() -> dict[str, tuple[float, float]]:
    """Return each fitted constant as computed here and as its preset has it."""
    rtx3090, a100, v100 = (preset(name) for name in ("rtx3090", "a100", "v100"))
    step, rate = a100_constants()
    return {
        "RTX 3090 clock, Hz": (rtx3090_clock(), float(rtx3090.clock)),
        "RTX 3090 launch, s": (rtx3090_launch(), float(rtx3090.costs["launch"])),
        "RTX 3090 area of the 2:4 tile": (
            min((16384, 32768), key=sparse_tile_error),
            float(rtx3090.costs["sparse tile"]),
        ),
        "A100 cycles of a step's barrier": (step, float(a100.costs["step"])),
        "A100 bytes a cycle from L2": (rate, float(a100.memory("l2").bandwidth) / float(a100.clock)),
        "V100 cycles of a step's barrier": (v100_step(), float(v100.costs["step"])),
        "T4 clock, Hz": (t4_clock(), float(preset("t4").clock)),
    }
