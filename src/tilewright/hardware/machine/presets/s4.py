"""Moffett AI S4, S10, S30 and S40: cards of 1, 2, 3 and 4 Antoum chips. Numbers are per chip, except `chips` and `limits`."""

from ...quantity import Quantity, assumed, derived, sourced
from ..energy import byte_energy, mac_energy, sram_energy
from ..spec import AcceleratorSpec, Memory

__all__ = ["SPECS"]

_QUALIFY = "Moffett mx-qual manual, sample output of an S30"
_SMI = "Moffett mx-smi manual"
_MLPERF = "MLPerf inference v2.1, Moffett's systems and README"
_CLOCK = derived(
    900e6,
    "Hz",
    f"29.491 TOPS dense INT8 per chip ({_QUALIFY}) = 2 x 16,384 x 900 MHz to four digits; 18,432 lanes at 800 MHz fit as well, "
    "and mx-smi samples show 700 MHz",
    low=700e6,
    high=900e6,
)
_LANES = 64 * 64
_KEPT = (2, 4, 8, 16, 32)
_STEPS = tuple((kept, 64) for kept in _KEPT)

# Energy per multiply-accumulate of 16,384 lanes at full rate, from the stress test: measured watts less idle, split
# evenly, less the operand that each lane reads. It includes selectors, registers and clock besides the arithmetic,
# whose table value is the lower end.
_NODE = 12.0
_IDLE = sourced(2.0, "W", f"{_SMI}: a chip at rest")
_OPERAND = sram_energy(8 << 10, _NODE)
_RATE = 4 * _LANES * float(_CLOCK)


def _mac(dtype: str, share: float) -> Quantity:
    value = (65.5 - float(_IDLE)) / (_RATE * share) - float(_OPERAND) * (2 if dtype == "bfloat16" else 1)
    bare = float(mac_energy(dtype, _NODE))
    return derived(
        value,
        "J/MAC",
        f"63 to 68 W per chip in the stress test ({_QUALIFY}) less idle, over all lanes at full rate, less operand reads; "
        "the node, 12 nm, and that the test keeps all lanes busy are assumed; low end: arithmetic alone",
        low=min(bare, value),
        high=1.1 * value,
    )


def _card(name: str, chips: int, watts: float, source: str) -> AcceleratorSpec:
    return AcceleratorSpec(
        name=name,
        engine="s4",
        about=f"Moffett {name.upper()}: {chips} Antoum chip{'s' if chips > 1 else ''} of 4 cores with 64 x 64 lanes, bank-balanced weights to 32x.",
        chips=sourced(chips, "", "S30: Moffett SMBus guide; S10: README of ByteMLPerf")
        if chips < 4
        else derived(
            chips, "", "80 GB over 20 GB per chip, and 4.02 times the throughput of an S4 (MLPerf v2.1 and v3.0)"
        ),
        cores=sourced(4, "", f"{_SMI}: SPU Cores Number"),
        rows=derived(64, "", "16,384 lanes over 4 cores = 64 x 64: tokens of a tile"),
        columns=derived(64, "", "16,384 lanes over 4 cores = 64 x 64: outputs of a tile"),
        clock=_CLOCK,
        macs={
            "int8": derived(_LANES, "MAC/cycle", f"29.49 TOPS per chip ({_QUALIFY})"),
            "bfloat16": derived(_LANES / 2, "MAC/cycle", f"exactly half the INT8 rate ({_QUALIFY})"),
        },
        selectors={"int8": _STEPS, "bfloat16": _STEPS},
        tiles=((64, 64, 64),),
        memories=(
            Memory(
                "weights",
                assumed(
                    4 << 20, "byte", "two units of 64 outputs x 4 cores with 8,192 inputs", low=1 << 20, high=8 << 20
                ),
                assumed(4 * 64 * 2 * 900e6, "byte/s", "64 weights of two bytes per cycle and core, as the lanes need"),
            ),
            Memory(
                "activations",
                assumed(
                    32 << 20,
                    "byte",
                    "not published; ResNet-50 at the published rate leaves no room for its activations in DRAM",
                    low=16 << 20,
                    high=64 << 20,
                ),
                assumed(4 * _LANES * 900e6, "byte/s", "an activation per cycle for each lane, as the lanes need"),
            ),
            Memory(
                "dram",
                sourced(20480 << 20, "byte", f"{_SMI}: 20,480 MiB, of which the system keeps 4,484"),
                sourced(61.4e9, "byte/s", f"{_QUALIFY}: measured read of 100 MB", low=61.4e9, high=72e9),
                efficiency=sourced(1, "", f"{_QUALIFY}: the bandwidth is a measured one, refreshes included"),
                kind="lpddr4x",
            ),
        ),
        costs={
            "bank": sourced(64, "", "PruningTools README: a column of 64 in a tile of 64 x 64"),
            "index.bits": derived(6, "bit", "position in a bank of 64"),
            "index.mask": assumed(
                0, "", "encoding not published: 0 is a position per weight, 1 a mask of 64 bits per bank", low=0, high=1
            ),
            "fill": derived(
                103,
                "cycle",
                "fitted to the six INT8 rates of 1x to 32x, taking the test for a product of 1024^3 (not published); "
                "64 + 64 cycles of filling and emptying would be 128",
                low=103 / 8,
                high=103 * 8,
            ),
            "bubble": derived(0.0093, "", "fitted to the six INT8 rates of 1x to 32x"),
            "launch": assumed(0, "s", "operations follow a schedule made beforehand", low=0, high=2e-6),
            "vector.lanes": assumed(
                256, "element/cycle", "one vector unit of 64 elements per core; not published", low=128, high=512
            ),
            "vector.latency": assumed(64, "cycle", "pipeline of a vector unit", low=16, high=256),
            "vector.softmax": assumed(2, "", "largest value and sum in one pass, scaling in another", low=2, high=3),
            "vector.layer_norm": assumed(2, "", "mean and variance in one pass, scaling in another", low=2, high=3),
            **{
                f"vector.{function}": assumed(
                    0,
                    "",
                    "on the way out of the lanes: ResNet-50's published rate leaves the vector unit no time for them",
                    low=0,
                    high=1,
                )
                for function in ("relu", "add", "gelu")
            },
            "vector.default": assumed(1, "", "one pass"),
            "overlap.default": assumed(1, "", "vector unit and lanes work at once", low=0, high=1),
            "overlap.carry": assumed(1, "", "on different samples of a batch"),
        },
        energy={
            "mac.int8": _mac("int8", 1.0),
            "mac.bfloat16": _mac("bfloat16", 0.5),
            "byte.activations": _OPERAND,
            "byte.weights": sram_energy(64 << 10, _NODE),
            "byte.dram": byte_energy("lpddr4x"),
            "vector": assumed(5e-12, "J/element", "a float16 operation with its registers", low=1e-12, high=2e-11),
            "static": _IDLE,
        },
        limits={"power": sourced(watts, "W", source)},
    )


SPECS = {
    spec.name: spec
    for spec in (
        _card("s4", 1, 75, f"{_MLPERF}: peak"),
        _card("s10", 2, 166, f"2 x 83 W, the limit of a chip on an S30 ({_SMI})"),
        _card("s30", 3, 250, f"{_MLPERF}: peak"),
        _card("s40", 4, 332, f"4 x 83 W, the limit of a chip on an S30 ({_SMI})"),
    )
}
"""The four cards by name."""
