"""The GPU model against published times: 2:4 and dense products, tile-wise products, BERT end to end, MLPerf on T4.

Run as ``python benchmarks/validation/tensor_core.py``; prints every point, writes ``benchmarks/records/validation-tensor-core.jsonl`` and,
with ``--figures``, the figures of the page. Points marked "fit" set a constant; the others are judged.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import _gpu_fits
import numpy as np
from _gpu_bert import fitted
from _gpu_published import (
    BERT_BASE,
    BERT_SHAPES,
    BY_INPUTS,
    HALF,
    HALF_SUMS,
    MLPERF,
    QUICKSTART,
    SQUAD_TOKENS,
    T4_RATES,
    TILE_WISE,
    TILESPARSITY,
    TUTORIAL,
    VENOM,
)

from tilewright.hardware import preset
from tilewright.hardware.engines import tensor_core
from tilewright.records import Record, read_records, write_record

RECORDS = Path(__file__).parents[1] / "records" / "validation-tensor-core.jsonl"
FIGURES = Path(__file__).parents[2] / "docs" / "explanation"


@dataclass(frozen=True)
class Point:
    """One published number and ours."""

    group: str
    name: str
    published: float
    modelled: float
    unit: str
    source: str
    x: float
    tolerance: float | None = None
    """Largest relative error that the tests accept; None where the point is shown and not asserted."""
    held: bool = True
    """False where it was used for a fit."""
    note: str = ""

    @property
    def error(self) -> float:
        """Relative."""
        return self.modelled / self.published - 1


def by_inputs() -> Iterator[Point]:
    """Yield the dense and 2:4 times on RTX 3090 by K."""
    spec = preset("rtx3090")
    for outputs, rows in BY_INPUTS.items():
        held = outputs == 1024
        for inputs, *published in rows:
            for sparse, time in enumerate(published):
                name = f"{outputs} x 4096 x {inputs} {'2:4' if sparse else 'dense'}"
                ours = _gpu_fits.milliseconds(spec, 4096, outputs, inputs, bool(sparse))
                group = f"RTX 3090 {'2:4' if sparse else 'dense'}, {outputs} outputs"
                yield Point(group, name, time, ours, "ms", VENOM, inputs, 0.2 if held else None, held)
    for outputs, inputs, tokens, *published in BERT_SHAPES:
        for sparse, time in enumerate(published):
            ours = _gpu_fits.milliseconds(spec, tokens, outputs, inputs, bool(sparse))
            group = f"RTX 3090 {'2:4' if sparse else 'dense'}, BERT shapes"
            yield Point(group, f"{outputs} x {tokens} x {inputs}", time, ours, "ms", VENOM, inputs, held=False)


def half_sums() -> Iterator[Point]:
    """Yield the faster cuBLAS times: the same card with float16 sums, twice the rate, nothing fitted."""
    spec = preset("rtx3090")
    factor = float(spec.costs["half accumulate"])
    spec = spec.with_quantity("macs.float16", factor * float(spec.rate("float16")))
    for outputs, inputs, tokens, time in HALF_SUMS:
        ours = _gpu_fits.milliseconds(spec, tokens, outputs, inputs, False)
        yield Point("RTX 3090 dense, float16 sums", f"{outputs} x {tokens} x {inputs}", time, ours, "ms", HALF, inputs)


def limits() -> Iterator[Point]:
    """Yield the speed-up of 2:4 at the largest published K, and where it goes as K grows."""
    spec = preset("rtx3090")
    *_, (inputs, dense, sparse) = BY_INPUTS[1024]
    ours = _gpu_fits.milliseconds(spec, 4096, 1024, inputs, False) / _gpu_fits.milliseconds(
        spec, 4096, 1024, inputs, True
    )
    yield Point("RTX 3090 speed-up", f"1024 x 4096 x {inputs}", dense / sparse, ours, "ratio", VENOM, inputs, 0.2)
    steps = (768, 3072, 12288, 49152, 196608)
    for side in (1024, 10496):  # 10,496 outputs are whole waves of 82 cores
        for inputs in steps:
            ratio = _gpu_fits.milliseconds(spec, 4096, side, inputs, False) / _gpu_fits.milliseconds(
                spec, 4096, side, inputs, True
            )
            yield Point("limit of 2:4", f"{side} x 4096 x {inputs}", 2.0, ratio, "ratio", "the ideal", inputs)


def quickstart() -> Iterator[Point]:
    """Yield the product of the tutorial's opening on A100: the two times that the preset's constants come from."""
    tokens, inputs, outputs, *published = QUICKSTART
    for sparse, time in enumerate(published):
        ours = _gpu_fits.milliseconds(preset("a100"), tokens, outputs, inputs, bool(sparse))
        name = f"{outputs} x {tokens} x {inputs} {'2:4' if sparse else 'dense'}"
        yield Point("A100 quick start", name, time, ours, "ms", TUTORIAL, inputs, 0.05, held=False)


def bert() -> Iterator[Point]:
    """Yield BERT-base end to end on A100: times, and the ratio of dense to 2:4."""
    spec = preset("a100")
    framework = fitted(spec, BERT_BASE["eager"])
    for mode, rows in BERT_BASE.items():
        for batch, published in rows.items():
            pairs = [framework.seconds(spec, mode, batch, sparse) for sparse in (False, True)]
            ours = [max(pair) * 1e3 for pair in pairs]
            held = mode != "eager" or batch not in (4, 64)
            bound = ["host" if host > gpu else "GPU" for gpu, host in pairs]
            note = f"dense bound by the {bound[0]}, 2:4 by the {bound[1]}"
            name = f"{mode}, batch {batch}"
            ratio = published[0] / published[1]
            yield Point(
                "BERT-base 2:4 speed-up", name, ratio, ours[0] / ours[1], "ratio", TUTORIAL, batch, 0.15, held, note
            )
            for sparse, time in enumerate(published):
                group = f"BERT-base {mode} {'2:4' if sparse else 'dense'}"
                yield Point(group, name, time, ours[sparse], "ms", TUTORIAL, batch, None, held, note)


def tile_wise() -> Iterator[Point]:
    """Yield the dense and stream-masked products on V100; the artifact waits for the device after every launch."""
    spec = _gpu_fits.artifact()
    wait = _gpu_fits.synchronise(spec)
    for M, N, K, kept_n, kept_k, *published in TILE_WISE:
        for product, time in zip(_gpu_fits.pair(M, N, K, kept_n, kept_k), published, strict=True):
            masked = product.weight is not None and product.weight.pattern is not None
            ours = (tensor_core.run_kernels(spec, product, "float16").cycles / float(spec.clock) + wait) * 1e6
            group = f"V100 {'tile-wise' if masked else 'dense'}"
            yield Point(group, f"{M} x {N} x {K}", time, ours, "us", TILESPARSITY, K, 0.2, masked)


def mlperf() -> Iterator[Point]:
    """Yield the T4's two offline rates; its clock is fitted to BERT-large alone."""
    for model, published in T4_RATES.items():
        ours = _gpu_fits.t4_rate(preset("t4"), model)
        fit = model == "bert-large"
        note = f"{SQUAD_TOKENS} tokens, not padded" if fit else "batches of 128"
        yield Point("T4 MLPerf offline", model, published, ours, "samples/s", MLPERF, published, 0.2, not fit, note)


def peaks() -> Iterator[Point]:
    """Yield the A100's published peaks."""
    spec = preset("a100")
    spec = spec.with_quantity("clock", float(spec.limits["boost"]))
    for dtype, dense in {"tf32": 156.0, "float16": 312.0, "bfloat16": 312.0, "int8": 624.0}.items():
        for density in (1.0, 0.5):
            ours = spec.peak(dtype, density) / 1e12
            name = f"{dtype}, density {density}"
            yield Point("A100 peaks", name, dense / density, ours, "TOPS", "NVIDIA A100 data sheet", density, 0.005)


def points() -> list[Point]:
    """Return all of them."""
    parts = (by_inputs, half_sums, limits, quickstart, bert, tile_wise, mlperf, peaks)
    return [point for part in parts for point in part()]


def draw() -> None:
    """Draw every recorded point against its published value, and times by K."""
    from tilewright.pages import Series, line_figure, save_figure, scatter_figure

    rows = [record for record in read_records(RECORDS) if record.unit in ("ms", "us", "samples/s")]
    panels: dict[str, dict[str, list[Record]]] = {}
    for record in rows:
        group = str(record.inputs["group"])
        panels.setdefault(group.split()[0] if not group.startswith("BERT") else "A100 BERT-base", {}).setdefault(
            group, []
        ).append(record)
    scatter = {
        f"{panel} ({next(iter(groups.values()))[0].unit})": [
            Series(group, [float(str(r.extra["published"])) for r in found], [r.median for r in found], style="points")
            for group, found in groups.items()
        ]
        for panel, groups in panels.items()
    }
    save_figure(
        scatter_figure(scatter, "published", "modelled", tolerance=0.2, columns=2),
        FIGURES / "tensor-core-validation.svg",
    )
    lines = {}
    for outputs in BY_INPUTS:
        shown = []
        for kind in ("dense", "2:4"):
            found = [r for r in rows if r.inputs["group"] == f"RTX 3090 {kind}, {outputs} outputs"]
            x = [float(str(r.extra["x"])) for r in found]
            shown += [
                Series(f"{kind}, published", x, [float(str(r.extra["published"])) for r in found], style="points"),
                Series(f"{kind}, model", x, [r.median for r in found], style="line"),
            ]
        lines[f"{outputs} outputs, 4,096 tokens{' (fit)' if outputs == 768 else ''}"] = shown
    save_figure(line_figure(lines, "inputs K", "ms", columns=2), FIGURES / "tensor-core-by-inputs.svg")


def main() -> None:
    """Print and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figures", action="store_true", help="draw the figures of the page from the records")
    figures = parser.parse_args().figures
    RECORDS.parent.mkdir(exist_ok=True)
    RECORDS.unlink(missing_ok=True)
    for name, (ours, used) in _gpu_fits.constants().items():
        print(f"{name:<62}{ours:>11.4g}{used:>11.4g} {'fitted, and as the preset has it':<10}")
    found = points()
    for point in found:
        shown = "" if point.tolerance is None else f"within {point.tolerance:.1%}"
        label = f"{point.group}: {point.name}"
        kind = "" if point.held else "fit"
        print(
            f"{label:<62}{point.published:>11.4g}{point.modelled:>11.4g} {point.unit:<10}{point.error:>+8.2%} {kind:<4}{shown} {point.note}"
        )
        record = Record.measure(
            "validation",
            point.name,
            point.modelled,
            point.unit,
            inputs={"group": point.group, "held out": point.held},
            checked=point.tolerance is not None and abs(point.error) <= point.tolerance,
            extra={
                "published": point.published,
                "error": point.error,
                "tolerance": point.tolerance,
                "source": point.source,
                "note": point.note,
                "x": point.x,
            },
        )
        write_record(RECORDS, record)
    for group in dict.fromkeys(point.group for point in found):
        errors = [abs(point.error) for point in found if point.group == group]
        print(f"{group:<40}{len(errors):>4} points, mean {np.mean(errors):>7.2%}, worst {np.max(errors):>7.2%}")
    if figures:
        draw()


if __name__ == "__main__":
    main()
