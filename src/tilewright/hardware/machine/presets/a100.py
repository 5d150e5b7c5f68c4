"""NVIDIA A100-SXM 80 GB (GA100): the first machine with 2:4 selectors in front of its tensor cores."""

from ...quantity import assumed, derived, sourced
from ..spec import AcceleratorSpec, Memory
from ._gpu import TILES, chip_memories, common_costs, energies, selectors

__all__ = ["SPEC"]

_PAPER = "NVIDIA A100 Tensor Core GPU architecture white paper"
_QUICKSTART = "PyTorch semi-structured sparsity tutorial, 3072 x 10240 x 3072"
_CORES = 108
_CLOCK = assumed(
    1.275e9,
    "Hz",
    "base clock of the 80 GB SXM card as listed by third parties; under dense tensor work the power limit keeps cards below the boost",
    low=1.095e9,
    high=1.41e9,
)
_RATES = {"float16": 1024, "bfloat16": 1024, "tf32": 512, "int8": 2048, "int4": 4096, "float32": 64}
_MACS = {
    dtype: sourced(rate, "MAC/cycle", f"{_PAPER}: dense peak over 108 cores at 1.41 GHz")
    for dtype, rate in _RATES.items()
}

SPEC = AcceleratorSpec(
    name="a100",
    engine="tensor-core",
    about="A100-SXM 80 GB: 108 cores, Ampere tensor cores with 2:4 selectors.",
    chips=sourced(1, "", _PAPER),
    cores=sourced(_CORES, "", _PAPER),
    rows=sourced(4, "", f"{_PAPER}: tensor cores of a core"),
    columns=sourced(256, "", f"{_PAPER}: float16 multiply-accumulates per cycle of one tensor core"),
    clock=_CLOCK,
    macs=_MACS,
    selectors=selectors("float16", "bfloat16", "tf32", "int8", "int4"),
    tiles=TILES,
    memories=(
        *chip_memories(
            164 << 10,
            sourced(40 << 20, "byte", _PAPER),
            derived(
                3850,
                "byte/cycle",
                f"75% of the 5,120 of the white paper: what explains the 2:4 time of the {_QUICKSTART}",
                low=2560,
                high=5120,
            ),
            _CORES,
            _CLOCK,
        ),
        Memory(
            "dram",
            sourced(80 << 30, "byte", "NVIDIA A100 data sheet, 80 GB SXM"),
            sourced(2039e9, "byte/s", "NVIDIA A100 data sheet, 80 GB SXM"),
            efficiency=assumed(0.88, "", "long streams of HBM2e", low=0.8, high=0.93),
            kind="hbm2e",
        ),
    ),
    costs={
        **common_costs(),
        "capability": sourced(8.0, "", "compute capability"),
        "step": derived(
            109,
            "cycle",
            f"barrier and waiting of one step over K: from the dense time of the {_QUICKSTART}",
            low=20,
            high=150,
        ),
        "index": assumed(200, "cycle", "one L2 latency for a line of an offset list", low=180, high=260),
        "accumulators": assumed(
            131072,
            "byte",
            "half of the 256 KiB of registers hold sums: two resident tiles of 128 x 128",
            low=65536,
            high=196608,
        ),
        "sparse tile": sourced(
            16384, "", "PyTorch's CUTLASS back end instantiates 128 x 128 tiles for sparse float16 products"
        ),
        "small sparse": assumed(
            0.65,
            "",
            "arXiv 2206.02874: mma.sp m16n8k16 stays near 1,300 of 2,048 multiply-accumulates per cycle; figure not re-checked",
            low=0.6,
            high=0.8,
        ),
        "latency": sourced(24.7, "cycle", "arXiv 2206.02874, A100, mma m16n8k16 with float32 sums", low=24, high=33),
        "fma": sourced(64, "MAC/cycle", _PAPER),
    },
    energy=energies(
        _RATES,
        7,
        "hbm2e",
        assumed(120, "W", "leakage, clocks and instruction issue, 30% of the power limit", low=70, high=180),
    ),
    limits={
        "power": sourced(400, "W", "NVIDIA A100 data sheet, SXM"),
        "boost": sourced(1.41e9, "Hz", _PAPER),
    },
)
