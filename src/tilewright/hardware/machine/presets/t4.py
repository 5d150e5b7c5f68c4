"""NVIDIA T4 (TU104): the 70 W card that S4 is compared with. No selectors."""

from ...quantity import assumed, derived, sourced
from ..spec import AcceleratorSpec, Memory
from ._gpu import TILES, chip_memories, common_costs, energies

__all__ = ["SPEC"]

_PAPER = "NVIDIA Turing GPU architecture white paper"
_CORES = 40
_CLOCK = derived(
    0.71e9,
    "Hz",
    "held down by the 70 W limit: fitted to the MLPerf rate of BERT-large in INT8. Base and boost clock are the interval; a user "
    "saw 24 of 65 TFLOPS in float16, which is the base clock (NVIDIA developer forum 264462)",
    low=0.585e9,
    high=1.59e9,
)
_RATES = {"float16": 512, "int8": 1024, "int4": 2048, "float32": 64}
_MACS = {
    dtype: sourced(rate, "MAC/cycle", f"{_PAPER}: dense peak of Tesla T4 at 1.59 GHz over 40 cores")
    for dtype, rate in _RATES.items()
}

SPEC = AcceleratorSpec(
    name="t4",
    engine="tensor-core",
    about="Tesla T4: 40 cores, Turing tensor cores without selectors, 70 W.",
    chips=sourced(1, "", _PAPER),
    cores=sourced(_CORES, "", _PAPER),
    rows=sourced(8, "", f"{_PAPER}: tensor cores of a core"),
    columns=sourced(64, "", f"{_PAPER}: float16 multiply-accumulates per cycle of one tensor core"),
    clock=_CLOCK,
    macs=_MACS,
    selectors={},
    tiles=TILES,
    memories=(
        *chip_memories(
            64 << 10,
            sourced(4 << 20, "byte", _PAPER),
            assumed(
                800,
                "byte/cycle",
                "about 1,270 GB/s at 1.59 GHz by microbenchmarks (Jia et al., arXiv 1903.07486)",
                low=600,
                high=1280,
            ),
            _CORES,
            _CLOCK,
        ),
        Memory(
            "dram",
            sourced(16 << 30, "byte", _PAPER),
            sourced(320e9, "byte/s", _PAPER),
            efficiency=assumed(0.8, "", "long streams of GDDR6", low=0.7, high=0.9),
            kind="gddr6",
        ),
    ),
    costs={
        **common_costs(),
        "capability": sourced(7.5, "", "compute capability"),
        "step": assumed(40, "cycle", "barrier of one step over K, between Volta's and Ampere's", low=8, high=150),
        "index": assumed(
            188,
            "cycle",
            "one L2 latency (Jia et al., arXiv 1903.07486) for a line of an offset list",
            low=180,
            high=300,
        ),
        "accumulators": assumed(
            131072,
            "byte",
            "half of the 256 KiB of registers hold sums: two resident tiles of 128 x 128",
            low=65536,
            high=196608,
        ),
        "sparse tile": derived(16384, "", "unused: the machine has no mma.sp"),
        "small sparse": derived(1, "", "unused: the machine has no mma.sp"),
        "latency": assumed(17, "cycle", "Turing mma m16n8k8 and m8n8k16", low=14, high=24),
        "fma": sourced(64, "MAC/cycle", _PAPER),
        "fused": assumed(1, "", "TensorRT joins element-wise operations with the product before them"),
    },
    energy=energies(
        _RATES,
        12,
        "gddr6",
        assumed(20, "W", "leakage, clocks and instruction issue, 30% of the power limit", low=12, high=30),
    ),
    limits={
        "power": sourced(70, "W", _PAPER),
        "boost": sourced(1.59e9, "Hz", _PAPER),
    },
)
