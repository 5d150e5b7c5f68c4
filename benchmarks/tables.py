"""Write the tables of measured results in README.md and the documentation from the committed records.

Run as ``python benchmarks/tables.py``; with ``--check`` it writes nothing and fails if a page does not match the records. Pages contain pairs
of comments, ``<!-- table:NAME -->`` and ``<!-- end -->``; the text between them is replaced.
"""

import argparse
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import _array_tables
import _gpu_tables
import _kernel_tables
import _mutant_tables
import _one_shot_tables
import _permutation_tables
import _simulation_tables
import _study_tables

from tilewright.jobs import load_recipe
from tilewright.records import Record, read_records

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
PAGES = [
    HERE.parent / "README.md",
    *sorted((DOCS / "explanation").glob("*.md")),
    *sorted((DOCS / "how-to").glob("*.md")),
    *sorted((DOCS / "studies").glob("*.md")),
    DOCS / "reference" / "simulation.md",
]
MODELS = {
    "minilm": "`bank64@4x`, density 1/4, `make demo`",
    "minilm-long": "the same, longer recovery",
    "minilm-half": "`32:64x4`, density 1/2",
    "tile-wise": "`tw16@75%` in stages",
}
DENSE = ("torch", "onnxruntime", "openvino")


def records(name: str) -> list[Record]:
    """Return the records of one file."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_records(HERE / "records" / f"{name}.jsonl")


def study(name: str) -> list[Record]:
    """Return the records of one study."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_records(HERE.parent / "studies" / "records" / f"{name}.jsonl")


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def one(found: Sequence[Record], kind: str, name: str, **inputs: object) -> Record:
    """Return the only matching record."""
    hits = [
        r for r in found if r.kind == kind and r.name == name and all(r.inputs.get(k) == v for k, v in inputs.items())
    ]
    if len(hits) != 1:
        raise SystemExit(f"{len(hits)} records are {kind}/{name} with {inputs}, expected exactly one")
    return hits[0]


def speedup(found: Sequence[Record], what: str, sentences: int) -> str:
    """Return the speed-up over the best dense engine, and its name."""
    ours = one(found, "latency", what, engine="tilewright", sentences=sentences).median
    dense = {name: one(found, "latency", what, engine=name, sentences=sentences).median for name in DENSE}
    best = min(dense, key=dense.__getitem__)
    return f"{dense[best] / ours:.2f}x ({best})"


def beside_default(found: Sequence[Record], what: str, sentences: int) -> str:
    """Return the speed-up over OpenVINO at its default precision, and that precision."""
    ours = one(found, "latency", what, engine="tilewright", sentences=sentences).median
    hits = [
        r
        for r in found
        if r.kind == "latency"
        and r.name == what
        and r.inputs["engine"] == "openvino (default)"
        and r.inputs["sentences"] == sentences
    ]
    return f"{hits[0].median / ours:.2f}x ({hits[0].inputs['precision']})" if hits else "not measured"


def share(found: Sequence[Record], kind: str, name: str, part: dict[str, object], whole: dict[str, object]) -> str:
    """Return one record's median relative to another's, in percent."""
    return f"{100 * one(found, kind, name, **part).median / one(found, kind, name, **whole).median:.1f}%"


def pruned_at_once(found: list[Record]) -> str:
    """Return the quality before recovery, if the model was pruned in one shot."""
    values = [r.median for r in found if (r.kind, r.name, r.inputs.get("model")) == ("quality", "mrr", "pruned")]
    return f"{values[0]:.3f}" if values else "pruned in stages"


def models() -> str:
    """Return quality, speed and size for each recipe in `MODELS`."""
    header = ["all-MiniLM-L6-v2, encoder pruned to", "steps of recovery", *(column for column, _ in _MODEL_ROWS)]
    rows = []
    for name, pattern in MODELS.items():
        found = records(name)
        recovery = load_recipe(HERE.parent / "examples" / f"{name}.yaml").recover
        rows.append([pattern, recovery.steps if recovery else "none", *(value(found) for _, value in _MODEL_ROWS)])
    return table(*_transposed(header, rows))


_MODEL_ROWS: list[tuple[str, Callable[[list[Record]], str]]] = [
    ("MRR, dense", lambda r: f"{one(r, 'quality', 'mrr', model='dense').median:.3f}"),
    ("MRR, pruned in one step", pruned_at_once),
    ("MRR, recovered and packed", lambda r: f"{one(r, 'quality', 'mrr', model='packed').median:.3f}"),
    ("share of the dense MRR", lambda r: share(r, "quality", "mrr", {"model": "packed"}, {"model": "dense"})),
    (
        "recall@1, dense / packed",
        lambda r: " / ".join(f"{one(r, 'quality', 'recall@1', model=m).median:.3f}" for m in ("dense", "packed")),
    ),
    ("mean cosine to dense", lambda r: f"{one(r, 'quality', 'cosine', model='packed').median:.3f}"),
    (
        "pruned weights on disk, of dense",
        lambda r: share(r, "size", "weights", {"model": "sparse"}, {"model": "dense"}),
    ),
    ("whole model in memory, of dense", lambda r: share(r, "size", "memory", {"model": "sparse"}, {"model": "dense"})),
    ("linear layers, 32 sentences, times the best dense engine", lambda r: speedup(r, "linear", 32)),
    ("whole model, 32 sentences", lambda r: speedup(r, "encode", 32)),
    ("whole model, 8 sentences", lambda r: speedup(r, "encode", 8)),
    ("whole model, 1 sentence", lambda r: speedup(r, "encode", 1)),
    ("whole model, 32 sentences, times OpenVINO as it comes", lambda r: beside_default(r, "encode", 32)),
    ("whole model, 1 sentence, times OpenVINO as it comes", lambda r: beside_default(r, "encode", 1)),
]


def seeds() -> str:
    """Return the demo's quality over its seeds."""
    found = [*records("minilm"), *records("minilm-seeds")]
    dense = one(records("minilm"), "quality", "mrr", model="dense").median
    rows = []
    for name in ("mrr", "recall@1", "cosine"):
        values = sorted(
            r.median for r in found if (r.kind, r.name, r.inputs.get("model")) == ("quality", name, "recovered")
        )
        mean = sum(values) / len(values)
        share = f", {100 * mean / dense:.1f}% of dense" if name == "mrr" else ""
        rows.append([name, len(values), f"{mean:.3f}{share}", f"{values[0]:.3f} to {values[-1]:.3f}"])
    return table(["recovered, density 1/4", "seeds", "mean", "range"], rows)


def _transposed(header: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    lines = [list(line) for line in zip(header, *rows, strict=True)]
    return lines[0], lines[1:]


def masks() -> str:
    """Return the time of every mask solver on all weights of BERT-large, in seconds."""
    found = [r for r in records("masks") if r.kind == "mask" and r.inputs["model"] == "bert-large"]
    return table(
        ["pattern", "seconds", "ns a weight"],
        [[f"`{r.name}`", f"{r.median:.1f}", f"{r.extra['ns_a_weight']:.1f}"] for r in found],
    )


def transposable() -> str:
    """Return the gap to the best transposable mask, and the time for one weight."""
    found, rows = records("transposable"), []
    for gap in (r for r in found if r.kind == "mask gap"):
        time = one(found, "mask", gap.name, scores=gap.inputs["scores"])
        gaps = [gap.extra["mean"], gap.max, gap.extra["greedy_mean"], gap.extra["greedy_max"]]
        cells = ["0" if abs(value) < 5e-15 else f"{value:.2%}" for value in gaps]
        rows.append([f"`{gap.name}`", gap.inputs["scores"], *cells, f"{time.median:.2f}"])
    return table(["pattern", "scores", "mean gap", "worst gap", "greedy: mean", "greedy: worst", "seconds"], rows)


def budgets() -> str:
    """Return the loss and MRR of MiniLM pruned once under each budget."""
    rows = []
    for r in records("budgets"):
        budget, pattern = r.inputs["budget"], f"`{r.inputs['pattern']}`"
        numbers = (f"{value:.3f}" for value in (r.extra["density"], r.median, r.extra["mrr"]))
        rows.append([r.name, "a plan" if budget == "constrained" else pattern, budget, *numbers])
    return table(["same", "pattern", "budget", "density", "loss", "MRR"], rows)


def quantized() -> str:
    """Return the MRR and cosine of MiniLM, dense and 2:4, by precision."""
    dense = one(records("int8"), "quality", "mrr", pattern="dense", precision="float32").median
    rows = [
        [
            r.inputs["pattern"],
            r.inputs["precision"],
            f"{r.median:.3f}",
            f"{r.median / dense:.1%}",
            f"{r.extra['cosine']:.3f}",
        ]
        for r in records("int8")
    ]
    return table(["weights", "precision", "MRR", "of dense float32", "cosine to dense"], rows)


def loading() -> str:
    """Return the speed of loading relative to `from_pretrained`, and the time to make masks."""
    found = records("loading")
    packed, dense = one(found, "load", "packed"), one(found, "load", "dense")
    masked = one(found, "mask", "sparsify_ MiniLM")
    rows = [
        [
            "`tilewright.load` of the packed model, times `from_pretrained` of the dense",
            f"{dense.median / packed.median:.2f}x",
        ],
        ["`sparsify_` of all 36 layers, `32:64x4`", f"{masked.median:.2f} s"],
    ]
    return table(["MiniLM, one thread", "measured"], rows)


def machine() -> str:
    """Return the machine and the versions behind the records."""
    found = records("minilm")[0]
    kernels = records("kernels")[0]
    libraries = ", ".join(f"{name} {found.versions[name]}" for name in ("torch", "onnxruntime", "openvino"))
    peak = max(r.extra["peak_flops"] for r in records("kernels") if "peak_flops" in r.extra)
    return (
        f"{found.machine['cpu']}, one thread for every engine, float32; FMA peak {peak / 1e9:.0f} GFLOP/s measured; {libraries}; "
        f"revisions {kernels.revision} (kernels) and {found.revision} (models)."
    )


TABLES: dict[str, Callable[[], str]] = {
    "models": models,
    "seeds": seeds,
    "kernels-rows": lambda: table(*_kernel_tables.shapes(records("kernels"), "rows", 8)),
    "kernels-panels": lambda: table(*_kernel_tables.shapes(records("kernels"), "panels", 8)),
    "kernels-nm": lambda: table(*_kernel_tables.shapes(records("kernels"), "rows", 1)),
    "kernels-cold": lambda: table(*_kernel_tables.cold(records("kernels"))),
    "goals": lambda: table(*_kernel_tables.goals(records("kernels"))),
    "matvec": lambda: table(*_kernel_tables.matvec(records("kernels"))),
    "never-slower": lambda: table(*_kernel_tables.never_slower(records("never-slower"))),
    "masks": masks,
    "transposable": transposable,
    "budgets": budgets,
    "loading": loading,
    "machine": machine,
    "banked-rates": lambda: table(*_array_tables.rates(records("validation-s4"))),
    "banked-networks": lambda: table(*_array_tables.networks(records("validation-s4"))),
    "banked-watts": lambda: table(*_array_tables.watts(records("validation-s4"))),
    "gpu-groups": lambda: table(*_gpu_tables.groups(records("validation-tensor-core"))),
    "gpu-ratios": lambda: table(*_gpu_tables.ratios(records("validation-tensor-core"))),
    "gpu-limit": lambda: table(*_gpu_tables.limit(records("validation-tensor-core"))),
    "gpu-products": lambda: table(*_gpu_tables.products(records("validation-tensor-core"))),
    "permutation-example": lambda: table(*_permutation_tables.example(records("permutation"))),
    "permutation-minilm": lambda: table(*_permutation_tables.minilm(records("permutation-minilm"))),
    "permutation-layers": lambda: table(*_permutation_tables.layers(records("permutation-minilm"))),
    "mutants": lambda: table(*_mutant_tables.scores(records("mutants"))),
    "mutant-survivors": lambda: table(*_mutant_tables.survivors(records("mutants"))),
    "simulated-minilm": lambda: table(*_simulation_tables.minilm(records("simulation"))),
    "simulation-costs": lambda: table(*_simulation_tables.costs(records("simulation"))),
    "simulation-alone": lambda: table(*_simulation_tables.alone(records("simulation"))),
    "fidelity": lambda: table(*_simulation_tables.fidelity(records("validation-fidelity"))),
    "one-shot": lambda: table(*_one_shot_tables.shares(study("one_shot"))),
    "one-shot-text": lambda: table(*_one_shot_tables.amounts(study("one_shot"))),
    "two-four": lambda: table(*_study_tables.two_four(study("two_four"))),
    "inherited": lambda: table(*_study_tables.inherited(study("inherited"))),
    "inheritance-gain": lambda: table(*_study_tables.inheritance_gain(study("inherited"))),
    "family-cost": lambda: table(*_study_tables.family_cost(study("inherited"))),
    "tiles": lambda: table(*_study_tables.tiles(study("tiles"))),
    "banks": lambda: table(*_study_tables.banks(study("high_sparsity"))),
    "sizes": lambda: table(*_study_tables.sizes(study("high_sparsity"))),
    "quantized": quantized,
    "sta-ratios": lambda: table(*_array_tables.ratios(records("validation-sta"))),
}


def filled(text: str) -> str:
    """Return a page with its tables regenerated."""

    def fill(match: re.Match[str]) -> str:
        return f"<!-- table:{match[1]} -->\n{TABLES[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- table:([a-z-]+) -->\n.*?<!-- end -->", fill, text, flags=re.DOTALL)


def main() -> None:
    """Write or check all pages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page differs from its records")
    check = parser.parse_args().check
    stale = []
    for page in PAGES:
        old = page.read_text(encoding="utf-8")
        new = filled(old)
        if new != old:
            stale.append(page.name)
            if not check:
                page.write_text(new, encoding="utf-8")
    if check and stale:
        sys.exit(f"{', '.join(stale)}: does not match the records; run python benchmarks/tables.py")


if __name__ == "__main__":
    main()
