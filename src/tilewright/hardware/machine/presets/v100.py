"""NVIDIA V100-PCIe 32 GB (GV100): the card of the tile-wise artifact. No selectors."""

from ...quantity import assumed, derived, sourced
from ..spec import AcceleratorSpec, Memory
from ._gpu import TILES, chip_memories, common_costs, energies

__all__ = ["SPEC"]

_PAPER = "NVIDIA Tesla V100 GPU architecture white paper"
_DENSE = "the three dense times of the tile-wise artifact (TileSparsity, StreamMaskedGEMM)"
_CORES = 80
_CLOCK = sourced(1.38e9, "Hz", "boost clock of the PCIe card (vendor)", low=1.245e9, high=1.38e9)
_RATES = {"float16": 512, "float32": 64}
_MACS = {
    dtype: sourced(rate, "MAC/cycle", f"{_PAPER}: 8 tensor cores of 64, or 64 FP32 units")
    for dtype, rate in _RATES.items()
}

SPEC = AcceleratorSpec(
    name="v100",
    engine="tensor-core",
    about="V100-PCIe 32 GB: 80 cores, first tensor cores, no selectors.",
    chips=sourced(1, "", _PAPER),
    cores=sourced(_CORES, "", _PAPER),
    rows=sourced(8, "", f"{_PAPER}: tensor cores of a core"),
    columns=sourced(64, "", f"{_PAPER}: multiply-accumulates per cycle of one tensor core"),
    clock=_CLOCK,
    macs=_MACS,
    selectors={},
    tiles=TILES,
    memories=(
        *chip_memories(
            96 << 10,
            sourced(6 << 20, "byte", _PAPER),
            assumed(
                1560,
                "byte/cycle",
                "about 2,155 GB/s by microbenchmarks (Jia et al., arXiv 1804.06826)",
                low=1200,
                high=2048,
            ),
            _CORES,
            _CLOCK,
        ),
        Memory(
            "dram",
            sourced(32 << 30, "byte", _PAPER),
            sourced(900e9, "byte/s", _PAPER),
            efficiency=assumed(0.85, "", "long streams of HBM2", low=0.8, high=0.92),
            kind="hbm2",
        ),
    ),
    costs={
        **common_costs(),
        "capability": sourced(7.0, "", "compute capability"),
        "step": derived(
            363,
            "cycle",
            f"slope over K of {_DENSE}: CUTLASS 1.3 stages operands through registers and waits at a barrier",
            low=150,
            high=400,
        ),
        "index": assumed(
            193,
            "cycle",
            "one L2 latency (Jia et al., arXiv 1804.06826) for a line of an offset list",
            low=190,
            high=300,
        ),
        "accumulators": derived(
            65536, "byte", f"one resident tile of 128 x 128: the time a tile of {_DENSE} takes besides its steps"
        ),
        "sparse tile": derived(16384, "", "unused: the machine has no mma.sp"),
        "small sparse": derived(1, "", "unused: the machine has no mma.sp"),
        "latency": assumed(18, "cycle", "HMMA.884 of Volta, four steps", low=14, high=33),
        "fma": sourced(64, "MAC/cycle", _PAPER),
    },
    energy=energies(
        _RATES,
        12,
        "hbm2",
        assumed(80, "W", "leakage, clocks and instruction issue, a third of the power limit", low=50, high=120),
    ),
    limits={
        "power": sourced(250, "W", "NVIDIA V100 data sheet, PCIe"),
        "boost": sourced(1.38e9, "Hz", "NVIDIA V100 data sheet, PCIe"),
    },
)
