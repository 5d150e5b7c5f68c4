"""The STA-like engine against what is published of STA: three ratios, and nothing else.

Run as ``python benchmarks/validation/sta.py``; prints every interval and writes ``benchmarks/records/validation-sta.jsonl``.

The paper's network, sequence length, n:m, array, memories and the software of its CPU and GPU runs are not public. So a ratio of ours is an
interval: the engine over the intervals of its preset, the CPU and GPU over stated shares of their peaks. Whether a published ratio lies
inside says that it is possible, not that the model is right. Nothing was fitted to it.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from _shapes import encoder, run

from tilewright.hardware import AcceleratorSpec, Operation, preset
from tilewright.pages import Series, line_figure, save_figure
from tilewright.patterns import NM
from tilewright.records import Record, write_record

RECORDS = Path(__file__).parents[1] / "records" / "validation-sta.jsonl"
FIGURE = Path(__file__).parents[2] / "docs" / "explanation" / "sta-validation.svg"
ABSTRACT = "Fang et al., arXiv 2208.06118, abstract"
PUBLISHED = {"i9-9900X": 14.47, "RTX 2080 Ti": 11.33}
LATER = {"i9-9900X": 27.13, "RTX 2080 Ti": 21.24, "FPGA, most": 36.51}
"""Zhang et al., FNM-Trans, DAC 2024, programme: the same baselines, "1.88x to 36.51x" over FPGAs."""
FPGA = (2.00, 19.47)


@dataclass(frozen=True)
class Rival:
    """A processor that runs the dense network in float32: the longest of arithmetic and weights from DRAM, plus a fixed time an operation.

    Intervals are (fast, slow).
    """

    name: str
    flops: tuple[float, float]
    bandwidth: tuple[float, float]
    overhead: tuple[float, float]
    source: str


RIVALS = (
    Rival(
        "i9-9900X",
        # 10 cores x 2 AVX-512 units x 16 lanes x 2; 2.8 to 3.8 GHz under load, 25 to 80% of it at one sample
        (0.80 * 640 * 3.8e9, 0.25 * 640 * 2.8e9),
        (0.8 * 85.3e9, 0.5 * 85.3e9),
        (3e-6, 20e-6),
        "10 cores, AVX-512, four channels of DDR4-2666 (Intel ARK); shares, clock and time an operation are assumed",
    ),
    Rival(
        "RTX 2080 Ti",
        (0.70 * 13.45e12, 0.15 * 13.45e12),
        (0.85 * 616e9, 0.6 * 616e9),
        (5e-6, 40e-6),
        "13.45 TFLOPS float32, 616 GB/s (NVIDIA Turing white paper); shares and time an operation are assumed",
    ),
)
NETWORKS = {
    "BERT-base, 128 tokens": {"tokens": 128, "layers": 12, "hidden": 768, "heads": 12, "inner": 3072},
    "Transformer-base encoder, 64 tokens": {"tokens": 64, "layers": 6, "hidden": 512, "heads": 8, "inner": 2048},
    "TinyBERT-4, 128 tokens": {"tokens": 128, "layers": 4, "hidden": 312, "heads": 12, "inner": 1200},
}
NM_KEPT = {"dense": 8, "4:8": 4, "2:8": 2, "1:8": 1}
PATTERNS = (None, NM(4, 8), NM(2, 8), NM(1, 8))
UNCERTAIN = ("clock", "memories.dram.bandwidth", "memories.dram.efficiency", "costs.launch", "costs.vector.lanes")


def rival_seconds(rival: Rival, operations: list[Operation]) -> tuple[float, float]:
    """Return (fast, slow) seconds of the dense network at one sample."""

    def total(end: int) -> float:
        seconds = 0.0
        for o in operations:
            moved = 4 * (o.N * o.K if o.weight is not None else 0) + 4 * (o.reads + o.writes) * (not o.is_product)
            work = 2 * o.macs if o.is_product else 5 * o.writes
            seconds += max(work / rival.flops[end], moved / rival.bandwidth[end]) + rival.overhead[end]
        return seconds

    return total(0), total(1)


def corner(fast: bool) -> AcceleratorSpec:
    """Return the preset with every uncertain number at its better or worse end, the size of the array included."""
    spec = preset("sta")
    numbers = dict(spec.quantities())
    rows, columns = (numbers[name].interval[fast] for name in ("rows", "columns"))
    lanes = rows * columns * float(spec.costs["lanes"])
    sizes = {"rows": rows, "columns": columns, "macs.int16": lanes, "macs.int8": lanes}
    for path, value in sizes.items():
        spec = spec.with_quantity(path, value)
    for path in UNCERTAIN:
        low, high = numbers[path].interval
        better, worse = (low, high) if path == "costs.launch" else (high, low)
        spec = spec.with_quantity(path, better if fast else worse)
    return spec


@dataclass(frozen=True)
class Interval:
    """A published ratio and ours."""

    rival: str
    network: str
    pattern: str
    published: float
    low: float
    middle: float
    high: float

    @property
    def contains(self) -> bool:
        """True if the published ratio is possible."""
        return self.low <= self.published <= self.high


def engine_seconds(network: str, pattern: NM | None) -> tuple[float, float, float]:
    """Return (fast, nominal, slow) seconds of the engine at one sample."""
    operations = encoder(1, pattern=pattern, **NETWORKS[network])
    fast, nominal, slow = (
        run(spec, operations, "int16").seconds for spec in (corner(True), preset("sta"), corner(False))
    )
    return fast, nominal, slow


def intervals() -> Iterator[Interval]:
    """Yield every network, pattern and rival."""
    for network, pattern in itertools.product(NETWORKS, PATTERNS):
        fast, nominal, slow = engine_seconds(network, pattern)
        dense = encoder(1, pattern=None, **NETWORKS[network])
        for rival in RIVALS:
            quick, long = rival_seconds(rival, dense)
            middle = (quick * long) ** 0.5 / nominal
            yield Interval(
                rival.name, network, str(pattern or "dense"), PUBLISHED[rival.name], quick / slow, middle, long / fast
            )


def consistency() -> dict[str, float]:
    """Return later over published ratios: equal ones mean that both papers divide by the same CPU, GPU and FPGA times."""
    return {**{name: LATER[name] / PUBLISHED[name] for name in PUBLISHED}, "FPGA, most": LATER["FPGA, most"] / FPGA[1]}


def main() -> None:
    """Print and record."""
    RECORDS.parent.mkdir(exist_ok=True)
    RECORDS.unlink(missing_ok=True)
    for name, ratio in consistency().items():
        print(f"FNM-Trans over STA against {name}: {ratio:.3f}")
    for found in intervals():
        verdict = "possible" if found.contains else "outside"
        print(
            f"{found.rival:<12}{found.network:<38}{found.pattern:<6}{found.published:>7.2f}"
            f"{found.low:>8.2f} to{found.high:>7.2f}, middle{found.middle:>7.2f}  {verdict}"
        )
        record = Record.measure(
            "validation",
            f"STA over {found.rival}",
            sorted((found.low, found.middle, found.high)),
            "ratio",
            inputs={"machine": "sta", "network": found.network, "pattern": found.pattern, "batch": 1},
            extra={"published": found.published, "source": ABSTRACT, "possible": found.contains},
        )
        write_record(RECORDS, record)
    draw()


def draw() -> None:
    """Draw the intervals against the published ratios."""
    panels = {}
    for rival in PUBLISHED:
        mine = [i for i in intervals() if i.rival == rival]
        panels[f"{rival}: published {PUBLISHED[rival]:g}"] = [
            Series(
                network,
                [NM_KEPT[i.pattern] for i in chosen],
                [i.middle for i in chosen],
                [i.low for i in chosen],
                [i.high for i in chosen],
            )
            for network in NETWORKS
            for chosen in [[i for i in mine if i.network == network]]
        ] + [Series("published", list(NM_KEPT.values()), [PUBLISHED[rival]] * len(NM_KEPT), style="dashed")]
    save_figure(
        line_figure(panels, "weights kept of 8", "ratio to dense float32 on the other machine", log_x=True, log_y=True),
        FIGURE,
    )


if __name__ == "__main__":
    main()
