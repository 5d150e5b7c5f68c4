"""Time a packed model against dense engines: in one process, in turns, with every output checked first."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...errors import ArgumentError, CheckFailed
from ...kernels import MOST_THREADS
from ...records import Progress, Record, Report, SilentProgress
from ...runtime import SparseLinear, densified, load, sparse_layers
from ..models import inner_model
from ..packing import load_packed
from ..recipe.data import MatchData, RetrievalData
from ..sources import Source
from ..tasks import build_task
from .peers import OPENVINO_DEFAULT, Engine, Run, linears, torch_engine, whole_models

__all__ = ["bench", "example_for", "forecast_bench", "loaded", "ratios", "speed_records"]

OURS = "tilewright"
_TOLERANCE = 2e-3
"""Maximum difference between two engines, relative to the largest output: float32 sums in different orders, layer after layer."""

_NARROW_TOLERANCE = 0.1
"""The same for an engine that multiplies in half precision."""

_LEAST = 0.01
"""Minimum duration of a timed sample, in seconds; shorter calls are repeated."""

Timed = Mapping[str, list[float]]
Example = Callable[[int], dict[str, torch.Tensor]]


def bench(
    path: str,
    *,
    model: str | None = None,
    sentences: Sequence[int] = (1, 8, 32),
    threads: int = 1,
    peers: Sequence[str] = ("torch", "onnxruntime", "openvino"),
    quick: bool = False,
    inputs: str | None = None,
    shape: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Time a packed model against dense engines running the same weights with their zeros.

    Parameters
    ----------
    path
        Checkpoint written by `save`.
    model
        ``module:callable`` that builds the module, for a checkpoint of a plain torch module.
    sentences
        Batch sizes. The items are sentences from the running Python's documentation for models that read text, else `inputs` or
        generated inputs.
    threads
        Threads per engine.
    peers
        Dense engines to compare with: any of ``torch``, ``onnxruntime`` and ``openvino``.
    quick
        Take three samples per measurement instead of seven.
    inputs
        File of inputs: ``.npz``, ``.npy`` or ``.safetensors``, items along the first axis. Default: generated inputs.
    shape
        Shape of one input, for a plain module without `inputs`.
    progress
        Receives every stage. Default: none.

    Returns
    -------
    Report
        One row per measurement: median and spread in milliseconds, and the ratio to the best dense engine (above 1 is faster than
        dense).

    Raises
    ------
    ArgumentError
        If the model's inputs cannot be determined, or an argument is out of range.
    CheckFailed
        If the outputs of two engines differ; no time is reported then.
    NotSupportedError
        If an engine is not installed, or the model cannot be converted for it.
    """
    packed = loaded(path, threads, model)
    records = list(
        speed_records(
            inner_model(packed),
            example_for(path, packed, model is not None, inputs, shape, max(sentences, default=1)),
            sentences,
            threads=threads,
            peers=peers,
            rounds=3 if quick else 7,
            progress=progress,
        )
    )
    best = ratios(records)
    rows = tuple(
        {
            "what": r.name,
            "engine": r.inputs["engine"],
            "precision": r.inputs["precision"],
            "sentences": r.inputs["sentences"],
            "tokens": r.inputs["tokens"],
            "ms": 1e3 * r.median,
            "spread": f"{1e3 * r.min:.3g} to {1e3 * r.max:.3g}",
            "ratio to best dense": best[r.name, r.inputs["sentences"]] if r.inputs["engine"] == OURS else None,
        }
        for r in records
    )
    return Report(
        "bench", rows, {"threads": threads, "checked": "every engine's output against the others' in this run"}
    )


def loaded(path: str | os.PathLike[str], threads: int, model: str | None = None) -> Any:
    """Load a packed model as a program would that runs it with `threads` threads; `model` names the callable that builds a plain module."""
    if not 1 <= threads <= MOST_THREADS:
        raise ArgumentError(f"threads must be at least 1 and at most {MOST_THREADS:,}, got {threads}")
    with _threads(threads):
        return load(path) if model is None else load_packed(model, path)


def forecast_bench(path: str, *, sentences: Sequence[int] = (1, 8, 32), quick: bool = False, **_: Any) -> Report:
    """Return the measurements that `bench` would make, without making them.

    Parameters
    ----------
    path, sentences, quick
        As for `bench`, whose other arguments are accepted and ignored.
    """
    rows = tuple(
        {"batch": n, "measurements": "linear layers, whole model", "rounds": 3 if quick else 7} for n in sentences
    )
    return Report(
        "forecast", rows, {"model": path, "time": "1 to 2 minutes: the dense engines convert the model first"}
    )


def example_for(
    path: str, packed: Any, plain: bool, inputs: str | None, shape: Sequence[int] | None, most: int
) -> Example:
    """Return a function from a batch size to a batch, for a model without a recipe."""
    if packed is not inner_model(packed) and inputs is None:
        return build_task(RetrievalData(), Source(path, "sentences", path), packed).example
    kind: Literal["sentences", "transformers", "module"] = (
        "module" if plain else "transformers" if packed is inner_model(packed) else "sentences"
    )
    items = max(most, 30) + 20
    data = MatchData(
        file=inputs, shape=None if shape is None else tuple(shape), items=items, test=10, validation=10, tokens=32
    )
    return build_task(data, Source(path, kind, path), packed).example


def speed_records(
    model: nn.Module,
    example: Example,
    sentences: Sequence[int],
    *,
    threads: int,
    peers: Sequence[str],
    rounds: int,
    progress: Progress | None = None,
) -> Iterator[Record]:
    """Yield latency records of a loaded model and of the dense engines, for the sparse layers alone and for the whole model.

    Parameters
    ----------
    model
        Model with sparse layers; of a SentenceTransformer, the transformer inside it.
    example
        Function from a number of items to the inputs of one call, tensors by name.
    sentences
        Batch sizes.
    threads, peers
        As for `bench`.
    rounds
        Samples per measurement.
    progress
        Receives every batch. Default: none.
    """
    if not 1 <= threads <= MOST_THREADS or not sentences or min(sentences) < 1:
        raise ArgumentError(
            f"threads must be at least 1 and at most {MOST_THREADS:,}, and sentences at least one positive batch size, got {threads} and "
            f"{list(sentences)}"
        )
    progress = progress or SilentProgress()
    with _threads(threads):
        dense = densified(model)
        progress.say("converting the model for the dense engines")
        engines = {OURS: torch_engine(model), **whole_models(dense, example(2), peers, threads)}
        precisions = {name: engine.precision for name, engine in engines.items()}
        twins: dict[int, tuple[SparseLinear, dict[str, Engine]]] = {}
        for index, count in enumerate(sentences):
            batch = {name: tensor.numpy() for name, tensor in example(count).items()}
            layers = list(_layers(model, batch, twins, peers, threads))
            tokens = _tokens(batch, layers)
            inputs = {"sentences": count, "tokens": tokens, "threads": threads}
            progress.step(index, len(sentences), f"{count} sentences, {tokens} tokens")
            if layers:
                yield from _records("linear", _time_layers(layers, rounds), inputs, precisions)
            calls = {name: _call(run, batch) for name, run in engines.items()}
            yield from _records("encode", _time(calls, rounds), inputs, precisions)
        progress.step(len(sentences), len(sentences))


def _tokens(batch: Mapping[str, NDArray[Any]], layers: Sequence["_Layer"]) -> int:
    """Return the number of tokens in a batch of text, padding included; for other inputs, the most rows that any layer receives."""
    return int(batch["input_ids"].size) if "input_ids" in batch else max((part.rows for part in layers), default=0)


def ratios(records: Sequence[Record]) -> dict[tuple[str, object], float]:
    """Return the speed-up over the best dense engine of the same precision, by (what, sentences)."""
    speedups: dict[tuple[str, object], float] = {}
    for ours in records:
        if ours.kind == "latency" and ours.inputs["engine"] == OURS:
            dense = [
                r.median
                for r in records
                if r.kind == "latency"
                and r.name == ours.name
                and r.inputs["engine"] != OURS
                and r.inputs["precision"] == ours.inputs["precision"]
                and r.inputs["sentences"] == ours.inputs["sentences"]
            ]
            speedups[ours.name, ours.inputs["sentences"]] = min(dense) / ours.median
    return speedups


@dataclass(frozen=True)
class _Layer:
    """One call of a sparse layer: the number of rows of its input, and its dense counterparts by engine."""

    layer: SparseLinear
    rows: int
    dense: dict[str, Engine]


def _layers(
    model: nn.Module,
    batch: Mapping[str, NDArray[Any]],
    twins: dict[int, tuple[SparseLinear, dict[str, Engine]]],
    peers: Sequence[str],
    threads: int,
) -> Iterator[_Layer]:
    """Yield every call of a sparse layer while the model runs a batch, in order; `twins` caches the layers' dense counterparts."""
    calls: list[tuple[SparseLinear, int]] = []

    def note(layer: SparseLinear, arguments: tuple[torch.Tensor, ...]) -> None:
        calls.append((layer, arguments[0].numel() // layer.in_features))

    handles = [layer.register_forward_pre_hook(note) for layer in sparse_layers(model).values()]
    try:
        torch_engine(model)(batch)
    finally:
        for handle in handles:
            handle.remove()
    for layer, rows in calls:
        if id(layer) not in twins:
            plain = SparseLinear(layer.packed(), layer.bias)  # without any fused activation
            twins[id(layer)] = plain, linears(plain.dense(), peers, threads)
        yield _Layer(twins[id(layer)][0], rows, twins[id(layer)][1])


def _time_layers(layers: Sequence[_Layer], rounds: int) -> dict[str, list[float]]:
    """Time all linear layers one after another, so that each weight is as cold in the cache as in the model; seconds."""
    rng = np.random.default_rng(0)
    everything: dict[str, list[Callable[[], NDArray[np.float32]]]] = {}
    for part in layers:
        arrays = {"x": rng.standard_normal((part.rows, part.layer.in_features), dtype=np.float32)}
        runs: dict[str, Run] = {OURS: _module_run(part.layer), **part.dense}
        calls = {name: _call(run, arrays) for name, run in runs.items()}
        _check({name: np.array(call()) for name, call in calls.items()})
        for name, call in calls.items():
            everything.setdefault(name, []).append(call)
    return _turns({name: _one_after_another(calls) for name, calls in everything.items()}, rounds)


def _one_after_another(calls: Sequence[Callable[[], object]]) -> Callable[[], object]:
    def run() -> None:
        for call in calls:
            call()

    return run


def _module_run(layer: SparseLinear) -> Run:
    def run(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        with torch.inference_mode():
            result: NDArray[np.float32] = layer(torch.from_numpy(arrays["x"])).numpy()
        return result

    return run


def _call(run: Run, arrays: Mapping[str, NDArray[Any]]) -> Callable[[], NDArray[np.float32]]:
    return lambda: run(arrays)


def _time(calls: Mapping[str, Callable[[], NDArray[np.float32]]], rounds: int) -> dict[str, list[float]]:
    """Check that all calls return the same output, then time them in turns; return seconds per call."""
    _check({name: np.array(call()) for name, call in calls.items()})
    return _turns(calls, rounds)


def _turns(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time the calls in turns, one sample of each per round; return seconds per call."""
    loops = {name: max(1, round(_LEAST / max(_seconds(call, 1), 1e-6))) for name, call in calls.items()}
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            samples[name].append(_seconds(call, loops[name]))
    return samples


def _seconds(call: Callable[[], object], loops: int) -> float:
    start = time.perf_counter()
    for _ in range(loops):
        call()
    return (time.perf_counter() - start) / loops


def _check(outputs: Mapping[str, NDArray[np.float32]]) -> None:
    ours = outputs[OURS]
    for name, theirs in outputs.items():
        difference = float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else float("inf")
        scale = float(np.abs(theirs).max())
        allowed = _NARROW_TOLERANCE if name == OPENVINO_DEFAULT else _TOLERANCE
        # The relative bound is meaningless if the outputs are not finite.
        if not np.isfinite(theirs).all() or not difference <= allowed * scale:
            raise CheckFailed(
                f"the outputs of {name} and {OURS} differ by up to {difference:.3g}, where the largest output is {scale:.3g} (tolerance: "
                f"{allowed:g} of that); no time is reported. Run `tilewright doctor` to check the kernels on this machine"
            )


def _records(
    name: str, samples: Timed, inputs: Mapping[str, object], precisions: Mapping[str, str]
) -> Iterator[Record]:
    for engine, times in samples.items():
        model = "sparse" if engine == OURS else "dense"
        what = {"engine": engine, "model": model, "precision": precisions[engine], **inputs}
        yield Record.measure("latency", name, times, "s", inputs=what, checked=True)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
