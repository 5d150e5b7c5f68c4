"""Timing a packed model against dense engines, in one process, in turns, every result checked first."""

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
"""Largest difference between two engines over the largest output: float32 summed in other orders, layer after layer."""

_NARROW_TOLERANCE = 0.1
"""The same where an engine multiplies in half precision."""

_LEAST = 0.01
"""Seconds a timed sample lasts at least: short calls are repeated."""

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
        ``module:callable`` that builds the module, if the checkpoint is of a plain one.
    sentences
        Sizes of the batches: sentences from the running Python's documentation for models that read text, else `inputs` or generated
        ones.
    threads
        Of every engine.
    peers
        Of ``torch``, ``onnxruntime`` and ``openvino``.
    quick
        Three rounds instead of seven.
    inputs
        File with arrays to run on: ``.npz``, ``.npy`` or ``.safetensors``, items first.
    shape
        Shape of one input, for a plain module where `inputs` is not given.

    Returns
    -------
    Report
        A row for each measurement: median, spread, and the ratio to the best dense engine (above 1: we are faster).

    Raises
    ------
    ArgumentError
        If what the model takes is not known, or an argument is out of range.
    CheckFailed
        If an engine's output differs from the others': no time is reported then.
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
    """Return a packed model as `load` gives it to a program that runs it with so many threads; `model` names what a plain module is built by."""
    if not 1 <= threads <= MOST_THREADS:
        raise ArgumentError(f"bench needs at least one thread, and at most {MOST_THREADS:,}; got {threads}")
    with _threads(threads):
        return load(path) if model is None else load_packed(model, path)


def forecast_bench(path: str, *, sentences: Sequence[int] = (1, 8, 32), quick: bool = False, **_: Any) -> Report:
    """Return what `bench` would do, without doing it."""
    rows = tuple(
        {"batch": n, "measurements": "linear layers, whole model", "rounds": 3 if quick else 7} for n in sentences
    )
    return Report(
        "forecast", rows, {"model": path, "time": "1 to 2 minutes: the dense engines convert the model first"}
    )


def example_for(
    path: str, packed: Any, plain: bool, inputs: str | None, shape: Sequence[int] | None, most: int
) -> Example:
    """Return what makes a batch for a model that no recipe speaks of."""
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
    """Yield latency records of the sparse layers and the whole of a loaded model, ours and the dense engines'.

    Parameters
    ----------
    model
        With sparse layers inside; of a SentenceTransformer, the transformer.
    example
        Returns the inputs of one call on so many items, tensors by name.
    sentences
        Sizes of the batches.
    threads, peers, rounds
        As for `bench`; rounds are samples of each measurement.
    progress
        Told about every batch.
    """
    if not 1 <= threads <= MOST_THREADS or not sentences or min(sentences) < 1:
        raise ArgumentError(
            f"bench needs at least one thread, at most {MOST_THREADS:,}, and batches of at least one sentence; got {threads} and {list(sentences)}"
        )
    told = progress or SilentProgress()
    with _threads(threads):
        dense = densified(model)
        told.say("converting the model for the dense engines")
        engines = {OURS: torch_engine(model), **whole_models(dense, example(2), peers, threads)}
        precisions = {name: engine.precision for name, engine in engines.items()}
        twins: dict[int, tuple[SparseLinear, dict[str, Engine]]] = {}
        for done, count in enumerate(sentences):
            batch = {name: tensor.numpy() for name, tensor in example(count).items()}
            layers = list(_layers(model, batch, twins, peers, threads))
            tokens = _tokens(batch, layers)
            inputs = {"sentences": count, "tokens": tokens, "threads": threads}
            told.step(done, len(sentences), f"{count} sentences, {tokens} tokens")
            if layers:
                yield from _records("linear", _time_layers(layers, rounds), inputs, precisions)
            calls = {name: _call(run, batch) for name, run in engines.items()}
            yield from _records("encode", _time(calls, rounds), inputs, precisions)
        told.step(len(sentences), len(sentences))


def _tokens(batch: Mapping[str, NDArray[Any]], layers: Sequence["_Layer"]) -> int:
    """Return the tokens of a batch of text, padding included; of anything else, the most rows that a layer is called with."""
    return int(batch["input_ids"].size) if "input_ids" in batch else max((part.rows for part in layers), default=0)


def ratios(records: Sequence[Record]) -> dict[tuple[str, object], float]:
    """Return the best median of a dense engine of the same precision over ours, by (what, sentences)."""
    found: dict[tuple[str, object], float] = {}
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
            found[ours.name, ours.inputs["sentences"]] = min(dense) / ours.median
    return found


@dataclass(frozen=True)
class _Layer:
    """A call of a sparse layer: the rows it is called with, and the dense engines' form of it."""

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
    """Yield every call of a sparse layer in a call of the model on a batch, in order; `twins` keeps the layers' dense forms."""
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
            plain = SparseLinear(layer.packed(), layer.bias)  # without an activation that is fused into it
            twins[id(layer)] = plain, linears(plain.dense(), peers, threads)
        yield _Layer(twins[id(layer)][0], rows, twins[id(layer)][1])


def _time_layers(layers: Sequence[_Layer], rounds: int) -> dict[str, list[float]]:
    """Return the time of all linear layers one after another, so that each weight is as cold as in the model."""
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
    """Check that all calls return the same, then time them in turns; seconds a call."""
    _check({name: np.array(call()) for name, call in calls.items()})
    return _turns(calls, rounds)


def _turns(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return seconds a call of each, one sample of each in turn."""
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
        far = float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else float("inf")
        scale = float(np.abs(theirs).max())
        allowed = _NARROW_TOLERANCE if name == OPENVINO_DEFAULT else _TOLERANCE
        if (
            not np.isfinite(theirs).all() or not far <= allowed * scale
        ):  # of what is not finite, any distance is small enough
            raise CheckFailed(
                f"{name} and {OURS} disagree by {far:.3g} where outputs reach {scale:.3g} (allowed: {allowed:g} of that); no time "
                "is reported. Run the tests of the kernels on this machine"
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
