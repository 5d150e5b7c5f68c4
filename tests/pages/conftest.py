"""A set of records in the form that a run makes. The numbers are invented; none is a measurement."""

import numpy as np
import pytest

from tilewright.pages import About, Check
from tilewright.patterns import mask, parse
from tilewright.records import Record

HOSTILE = "encoder.<script>alert(1)</script>.\"'&weight"


def quality_records():
    stages = {"dense": 1.0, "pruned": 0.787, "recovered": 0.9421, "packed": 0.9417}
    for name, dense in (("mrr", 0.5590), ("recall@1", 0.4540)):
        for seed in range(3):
            for stage, share in stages.items():
                value = dense * (share + (0.008 * (seed - 1) if stage != "dense" else 0))
                yield Record.measure(
                    "quality",
                    name,
                    value,
                    "",
                    inputs={"model": stage, "pairs": 500},
                    seed=seed,
                    extra={"meaning": "Mean reciprocal rank, averaged over all queries."},
                )
    for stage, value in (("pruned", 0.861), ("recovered", 0.957), ("packed", 0.957)):
        yield Record.measure("quality", "cosine", value, "", inputs={"model": stage, "pairs": 500}, seed=0)


def latency_records():
    dense = {"torch": 1.28, "onnxruntime": 1.06, "openvino": 1.0}
    for name, gains in (("encode", {1: 1.21, 8: 1.43, 32: 1.62}), ("linear", {1: 1.48, 8: 1.83, 32: 2.13})):
        for sentences, gain in gains.items():
            best = (0.0041 if name == "encode" else 0.0029) * sentences**0.93
            common = {"precision": "float32", "sentences": sentences, "tokens": 64, "threads": 1}
            for engine, slower in dense.items():
                samples = best * slower * np.array([0.99, 1.0, 1.04])
                inputs = {"engine": engine, "model": "dense", **common}
                yield Record.measure("latency", name, samples, "s", inputs=inputs, checked=True)
            samples = best / gain * np.array([0.985, 1.0, 1.03])
            inputs = {"engine": "tilewright", "model": "sparse", **common}
            yield Record.measure("latency", name, samples, "s", inputs=inputs, checked=True)


def size_records():
    sizes = {"disk": (90.9e6, 67.8e6), "memory": (91.4e6, 68.9e6), "weights": (42.5e6, 22.8e6)}
    for name, (dense, sparse) in sizes.items():
        yield Record.measure("size", name, dense, "bytes", inputs={"model": "dense"})
        yield Record.measure("size", name, sparse, "bytes", inputs={"model": "sparse"})


def layer_records():
    shapes = {
        "attention.query": (384, 384),
        "attention.output": (384, 384),
        "intermediate": (1536, 384),
        "output": (384, 1536),
    }
    for layer in range(6):
        for part, shape in shapes.items():
            dense = layer == 0 and part == "attention.query"
            reason = "dense is 1.08x faster here" if dense else "sparse measured faster at 32 sentences"
            extra = {"density": 1.0 if dense else 0.5, "kernel": "dense" if dense else "tile8.avx512", "reason": reason}
            inputs = {"pattern": "tw8@50%", "shape": shape}
            ratio = 1.0 if dense else 1.9 + 0.07 * layer
            name = f"encoder.layer.{layer}.{part}.dense.weight"
            yield Record.measure(
                "layer", name, ratio, "ratio", inputs=inputs, checked=True, extra={**extra, "ratio": ratio}
            )
    extra = {"density": 1.0, "kernel": "dense", "reason": "K = 30522 is no linear layer: <b>ignored</b>", "ratio": None}
    yield Record.measure("layer", HOSTILE, 1, "ratio", inputs={"pattern": "2:4", "shape": [7, 5]}, extra=extra)


def loss_records():
    rng = np.random.default_rng(0)
    for seed in range(2):
        steps = np.arange(1, 601)
        loss = 0.02 + 0.4 * np.exp(-steps / 70) * (1 + 0.1 * rng.standard_normal(600)) + 0.002 * rng.random(600)
        yield Record.measure("loss", "distillation", loss, "", seed=seed, extra={"steps": steps, "loss": loss})
        values = [0.31, 0.42 + 0.01 * seed, 0.47, 0.4712345678]
        extra = {"steps": [0, 200, 400, 600], "values": values, "dense": 0.5123}
        inputs = {"split": "validation", "pairs": 100, "seed": seed}
        yield Record.measure("curve", "mrr", values[-1], "1", inputs=inputs, seed=seed, extra=extra)


def kernel_records():
    for m, n, k in ((384, 768, 768), (384, 3072, 768)):
        for density, ratio, peak in (
            (1 / 2, 2.41, 0.83),
            (1 / 4, 4.38, 0.74),
            (1 / 8, 7.9, 0.66),
            (1 / 16, 11.2, 0.55),
        ):
            inputs = {"op": "linear", "M": m, "N": n, "K": k, "density": density, "tile": 8, "layout": "row-major"}
            extra = {"ratio": ratio, "dense_engine": "onnxruntime", "share_of_peak": peak}
            time = 0.004 / ratio * n / 768
            yield Record.measure(
                "kernel", "linear", [time, time * 1.01, time * 1.1], "s", inputs=inputs, checked=True, extra=extra
            )


@pytest.fixture(scope="session")
def sample_records():
    return [
        *quality_records(),
        *latency_records(),
        *size_records(),
        *layer_records(),
        *loss_records(),
        *kernel_records(),
    ]


@pytest.fixture(scope="session")
def sample_arguments():
    rng = np.random.default_rng(1)
    rows = np.abs(rng.standard_normal((384, 384)))
    shaped = rows * np.exp(-np.linspace(0, 2, 384))[None, :]
    masks = {
        "encoder.layer.0.attention.query.weight": mask(parse("tw8@50%"), shaped),
        "encoder.layer.0.intermediate.dense.weight": mask(parse("2:4"), np.abs(rng.standard_normal((1536, 384)))),
        "encoder.layer.1.output.dense.weight": mask(parse("tew16@75%+5%"), np.abs(rng.standard_normal((384, 1536)))),
        HOSTILE: mask(parse("block4x4@50%"), np.abs(rng.standard_normal((30, 50)))),
    }
    checks = (
        Check("MRR, share of dense", 0.9417, "at least 0.93", True),
        Check("Sparse linear layers at 32 sentences, against the best dense engine", 2.13, "at least 1.5", True),
        Check("Every mask obeys its pattern", "24 of 24 layers", "all", True),
        Check("Encoder weights on disk, share of dense", 0.5613, "at most 0.56", False),
    )
    recipe = {
        "version": 1,
        "model": "all-MiniLM-L6-v2",
        "stages": [{"prune": {"pattern": "tw8@50%", "score": "taylor"}}, {"recover": {"steps": 600}}],
    }
    return {
        "title": "MiniLM, tile-wise at 50%",
        "masks": masks,
        "recipe": recipe,
        "checks": checks,
        "about": About(
            model="all-MiniLM-L6-v2 (BertModel, 22.7 million weights)",
            task="Retrieval of second paragraphs by first ones.",
            date="28 November 2026, 10:15",
            seconds=312.4,
            command="tilewright run recipe.yaml",
            use='import tilewright\n\nmodel = tilewright.load("model")\nvectors = model.encode(["A sentence to embed."])\n',
        ),
        "summary": "Pruned once, recovered in 600 steps of distillation on the Python documentation, packed, and measured on one thread.",
    }
