"""An STA-like engine (Fang et al., arXiv 2208.06118) that fits an Arria 10 SX 660.

The sizes of the paper's engine are not public. Most numbers are assumed, but their bounds are public: 1,687 DSP blocks of two 18 x 19 multipliers, 251,680 adaptive logic
modules and 2,131 memory blocks of 20 kbit (Intel Arria 10 device overview). 8 x 128 elements with two multipliers use
2,048 of the 3,374. A selector of 16 inputs takes five 6-input tables per bit, so 2,048 selectors of 16 bits take about
164,000, two thirds of the logic. More multipliers or wider windows would not leave room for the rest; selectors of 32
inputs would not fit at all.
"""

from ...dram import long_stream
from ...quantity import assumed, derived, sourced
from ..energy import byte_energy
from ..spec import AcceleratorSpec, Memory

__all__ = ["SPEC"]

_PAPER = "Fang et al., arXiv 2208.06118"
_DEVICE = "Intel Arria 10 device overview, SX 660"
_WINDOW = 16
_PATTERNS = tuple((n, m) for m in (2, 4, 8, 16) for n in range(1, m))
_CLOCK = assumed(200e6, "Hz", "recalled from the paper, not confirmed", low=150e6, high=240e6)
_LANES = derived(2048, "MAC/cycle", "rows x columns x lanes")


def _block_ram(name: str, size: int, low: int, high: int, width: int, what: str) -> Memory:
    return Memory(
        name,
        assumed(size, "byte", f"{what}; all block memory is 5.3 MB ({_DEVICE})", low=low, high=high),
        assumed(width * float(_CLOCK), "byte/s", "as wide as the array's edge"),
    )


SPEC = AcceleratorSpec(
    name="sta",
    engine="sta",
    about="STA-like: 8 x 128 elements with 2 multipliers behind selectors of 16, 16-bit, 200 MHz, Arria 10 SX 660.",
    chips=sourced(1, "", _PAPER),
    cores=assumed(1, "", "one computing engine (abstract)"),
    rows=assumed(8, "", "variants of 8 and of 4 rows are recalled from the paper, not confirmed", low=4, high=8),
    columns=assumed(128, "", "as many as the selectors leave room for: see the head of this file", low=64, high=192),
    clock=_CLOCK,
    macs={"int16": _LANES, "int8": _LANES},
    selectors={"int16": _PATTERNS, "int8": _PATTERNS},
    tiles=((8, 128, _WINDOW),),
    memories=(
        _block_ram(
            "weights", 2 << 20, 1 << 20, 3 << 20, 128 * (2 * 2 + 2), "two units of 128 outputs with 4,096 dense inputs"
        ),
        _block_ram("activations", 2 << 20, 1 << 20, 3 << 20, 8 * _WINDOW * 2, "the rest, less sums and instructions"),
        Memory(
            "dram",
            assumed(2 << 30, "byte", "a development board", low=1 << 30, high=8 << 30),
            assumed(
                19.2e9,
                "byte/s",
                f"64 bits of DDR4-2400, the fastest that the device takes ({_DEVICE})",
                low=8.5e9,
                high=19.2e9,
            ),
            efficiency=derived(
                long_stream("ddr4-2400")[0],
                "",
                "long reads on the DRAM model; the low end: a controller that gives way to others, and turns between reads and writes",
                low=0.7,
                high=long_stream("ddr4-2400")[0],
            ),
            kind="ddr4-2400",
        ),
    ),
    costs={
        "lanes": assumed(2, "", "multipliers of an element: 1:8 at full rate with a window of 16", low=1, high=2),
        "window": assumed(_WINDOW, "", "inputs of a selector, and activations of a row and beat"),
        "index": assumed(
            16,
            "bit/cycle",
            "bitmap that a column decodes: a whole window, so that only a tile's first word waits",
            low=4,
            high=16,
        ),
        "launch": assumed(1e-6, "s", "an instruction fetched and decoded", low=0, high=5e-6),
        "vector.lanes": assumed(
            32,
            "element/cycle",
            "half of the multipliers left by the array feed one every other function",
            low=16,
            high=64,
        ),
        "vector.latency": assumed(32, "cycle", "exponential, sum and reciprocal in a pipeline", low=16, high=64),
        "vector.softmax": assumed(
            2, "", "largest value and sum as scores arrive, scaling as probabilities are used", low=2, high=3
        ),
        "vector.layer_norm": assumed(2, "", "mean and variance in one pass, scaling in another", low=2, high=3),
        "vector.default": assumed(1, "", "one pass"),
        "overlap.softmax": sourced(
            1, "", f"{_PAPER}: a softmax module that is scalable, parallel and pipelined; scores stay on chip"
        ),
        "overlap.gelu": assumed(1, "", "applied to sums as columns shift them out", low=0, high=1),
        "overlap.relu": assumed(1, "", "applied to sums as columns shift them out", low=0, high=1),
    },
    energy={
        "mac.int16": assumed(
            12e-12, "J/MAC", "a hard 18 x 19 multiplier at 20 nm with selector and routing", low=5e-12, high=25e-12
        ),
        "mac.int8": assumed(8e-12, "J/MAC", "the same multiplier with half the bits moving", low=3e-12, high=20e-12),
        "byte.activations": assumed(
            2.5e-12, "J/byte", "a block memory of 20 kbit and its routing", low=1e-12, high=6e-12
        ),
        "byte.weights": assumed(2.5e-12, "J/byte", "a block memory of 20 kbit and its routing", low=1e-12, high=6e-12),
        "byte.dram": byte_energy("ddr4"),
        "vector": assumed(20e-12, "J/element", "logic of 16 to 32 bits", low=5e-12, high=60e-12),
        "static": assumed(8, "W", "a large 20 nm device with clocks running", low=4, high=15),
    },
)
