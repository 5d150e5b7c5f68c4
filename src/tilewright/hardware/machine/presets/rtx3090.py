"""NVIDIA GeForce RTX 3090 (GA102): the card of the published 2:4 and V:N:M kernel times."""

from ...quantity import assumed, derived, sourced
from ..spec import AcceleratorSpec, Memory
from ._gpu import TILES, chip_memories, common_costs, energies, selectors

__all__ = ["SPEC"]

_PAPER = "NVIDIA Ampere GA102 GPU architecture white paper"
_CORES = 82
_CLOCK = derived(
    1.395e9,
    "Hz",
    "base clock (vendor). The slope over K of published 2:4 times is the tensor cores' full rate at 1.387 GHz: the card "
    "holds its base clock under this load (768 outputs, VENOM artifact, not used for validation)",
    low=1.395e9,
    high=1.695e9,
)
_RATES = {"float16": 256, "bfloat16": 256, "tf32": 128, "int8": 1024, "int4": 2048, "float32": 128}
_MACS = {
    dtype: sourced(rate, "MAC/cycle", f"{_PAPER}: dense peak of RTX 3090 at 1.695 GHz, float32 or int32 sums")
    for dtype, rate in _RATES.items()
}

SPEC = AcceleratorSpec(
    name="rtx3090",
    engine="tensor-core",
    about="GeForce RTX 3090: 82 cores, Ampere tensor cores with 2:4 selectors, half rate where float16 is summed in float32.",
    chips=sourced(1, "", _PAPER),
    cores=sourced(_CORES, "", _PAPER),
    rows=sourced(4, "", f"{_PAPER}: tensor cores of a core"),
    columns=derived(64, "", "256 float16 multiply-accumulates per cycle and core over 4 tensor cores"),
    clock=_CLOCK,
    macs=_MACS,
    selectors=selectors("float16", "bfloat16", "tf32", "int8", "int4"),
    tiles=TILES,
    memories=(
        *chip_memories(
            100 << 10,
            sourced(6 << 20, "byte", _PAPER),
            assumed(2300, "byte/cycle", "48 slices of 64 bytes, 75% of that in use as on A100", low=1200, high=3072),
            _CORES,
            _CLOCK,
        ),
        Memory(
            "dram",
            sourced(24 << 30, "byte", _PAPER),
            sourced(936e9, "byte/s", _PAPER),
            efficiency=assumed(0.9, "", "long streams of GDDR6X", low=0.85, high=0.93),
            kind="gddr6x",
        ),
    ),
    costs={
        **common_costs(),
        "launch": derived(
            8e-6,
            "s",
            "what the published 2:4 times at 768 outputs take beyond their tiles (VENOM artifact, not used for validation)",
            low=4e-6,
            high=12e-6,
        ),
        "capability": sourced(8.6, "", "compute capability"),
        "step": assumed(
            8, "cycle", "barrier of one step over K; published slopes leave no room for more", low=0, high=20
        ),
        "index": assumed(250, "cycle", "one L2 latency for a line of an offset list", low=200, high=300),
        "accumulators": assumed(
            131072,
            "byte",
            "half of the 256 KiB of registers hold sums: two resident tiles of 128 x 128",
            low=65536,
            high=196608,
        ),
        "sparse tile": derived(
            32768,
            "",
            "cuSPARSELt 0.3.0 ran tiles of 256 x 128: with them 26 published 2:4 times are met within 1% on average, with 128 x 128 within 24%",
        ),
        "small sparse": assumed(
            1.0, "", "arXiv 2206.02874 reports full rate of the small mma.sp on GA104", low=0.9, high=1
        ),
        "latency": assumed(
            33, "cycle", "arXiv 2206.02874, RTX 3070 Ti, mma m16n8k16 with float32 sums", low=30, high=36
        ),
        "fma": sourced(128, "MAC/cycle", _PAPER),
        "half accumulate": sourced(2, "", f"{_PAPER}: 142 against 71 TFLOPS"),
    },
    energy=energies(
        _RATES,
        8,
        "gddr6x",
        assumed(140, "W", "leakage, clocks and instruction issue, 40% of the power limit", low=90, high=190),
    ),
    limits={
        "power": sourced(350, "W", _PAPER),
        "boost": sourced(1.695e9, "Hz", _PAPER),
    },
)
