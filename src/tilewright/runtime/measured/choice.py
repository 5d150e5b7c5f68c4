"""Never slower: each sparse layer is measured against its dense form, and the faster one runs; then the whole model is measured.

A measurement depends on the processor, the library versions, the thread count, and the layer's shape, pattern and density,
but not on its values, so it is made once and remembered.
"""

import os
from dataclasses import replace
from typing import Literal

import torch
from torch import nn

from ...errors import ArgumentError
from ...kernels import implementations
from ...records import machine
from ..install import Note, dense_twin, pin, set_submodule, sparse_layers
from ..layer import SparseLinear
from .memory import Choice, Memory
from .timing import last_cache_bytes, timings
from .whole import whole_ratios

__all__ = ["Choice", "Measure", "check_measure", "check_tokens", "choose", "kernel_in_use", "settle_"]

Measure = bool | Literal["again"]
"""Whether layers are measured. Remembered results are used with True and replaced with ``"again"``."""

_TOKENS: dict[bool, tuple[int, ...]] = {True: (1, 128), False: (16, 128)}
"""Default numbers of tokens at which a layer must win, by whether the model generates text. Models that do see one token at a time;
for others a short sentence is the minimum."""

_LEAST_PLAUSIBLE = 0.25
"""Ratios below this are measured a second time before they are accepted."""

_NOISE = 0.97
"""Lowest ratio at which a whole model does not count as slower than its dense form."""


def settle_(model: nn.Module, tokens: int | None = None, measure: Measure = True) -> dict[str, Choice]:
    """Measure (or look up) every sparse layer of a model, and make those dense that would be slower; in place."""
    check_tokens(tokens)
    memory, again = Memory(), measure == "again"
    counts = _counts(model, tokens)
    layers = dict(sparse_layers(model))
    choices: dict[str, Choice] = {}
    known: dict[str, Choice] = {}
    for name, layer in layers.items():
        key = key_of(layer, counts)
        choices[name] = known[key] if key in known else choose(layer, counts, memory, again=again)
        known[key] = choices[name]
    twins = {name: dense_twin(layer) for name, layer in layers.items() if not choices[name].sparse}
    for name, twin in twins.items():
        set_submodule(model, name, twin)
    verdict = _whole(model, {name: layer for name, layer in layers.items() if name not in twins}, counts, memory, again)
    for name, layer in layers.items():
        choice, reason = choices[name], choices[name].reason
        if choice.sparse and verdict is not None and not verdict.sparse:
            set_submodule(model, name, twins.setdefault(name, dense_twin(layer)))
            reason = f"dense: with its sparse layers the whole model {verdict.reason.removeprefix('dense: ')}"
        note = Note(layer.pattern, layer.stored_dtype, reason, min(choice.ratios.values()))
        pin(twins.get(name, layer), note)
    return choices


def choose(
    layer: SparseLinear,
    counts: tuple[int, ...] = _TOKENS[False],
    memory: Memory | None = None,
    *,
    again: bool = False,
) -> Choice:
    """Return the choice for a layer at the given numbers of tokens per call, remembered or measured."""
    memory = memory if memory is not None else Memory()
    key = key_of(layer, counts)
    choice = memory.get(key)
    if again or choice is None or not (choice.confirmed or _plausible(choice, _density(layer))):
        choice = measured(layer, counts)
        memory.put(key, choice)
    return choice


def check_tokens(tokens: object) -> None:
    """Raise unless `tokens` is None or a positive integer."""
    if tokens is not None and (not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 1):
        raise ArgumentError(f"tokens must be a positive integer, or None for the default; got {tokens!r}")


def check_measure(measure: object) -> None:
    """Raise unless `measure` is True, False or ``"again"``."""
    if not isinstance(measure, bool) and measure != "again":
        raise ArgumentError(
            f"measure must be True, False or 'again' (measure again and remember the result); got {measure!r}"
        )


def kernel_in_use() -> str:
    """Return the name of the implementation that runs by default."""
    forced = os.environ.get("TILEWRIGHT_KERNEL")
    return forced or next(implementation.name for implementation in implementations() if implementation.available)


def _counts(model: nn.Module, tokens: int | None) -> tuple[int, ...]:
    if tokens is not None:
        return (tokens,)
    generates = any(
        getattr(module, "can_generate", bool)() for module in model.modules() if hasattr(module, "can_generate")
    )
    return _TOKENS[generates]


def measured(layer: SparseLinear, counts: tuple[int, ...]) -> Choice:
    """Measure a layer, twice if a ratio is implausible."""
    first = _once(layer, counts)
    if _plausible(first, _density(layer)):
        return first
    second = _once(layer, counts)
    agree = all(0.8 < second.ratios[count] / first.ratios[count] < 1.25 for count in counts)
    kept = second.kept and agree
    return replace(second, kept=kept, confirmed=agree)


def _once(layer: SparseLinear, counts: tuple[int, ...]) -> Choice:
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(count, layer.in_features, generator=generator).to(layer.surrounding) for count in counts]
    results = dict(zip(counts, timings(dense_twin(layer), layer, inputs), strict=True))
    ratios = {count: result.ratio for count, result in results.items()}
    quiet = all(result.quiet for result in results.values())
    threads = torch.get_num_threads()
    return Choice(min(ratios.values()) >= 1.0, ratios, kernel_in_use(), threads, quiet, layer=describe(layer))


def _plausible(choice: Choice, density: float) -> bool:
    """Return True unless a ratio is far from what this density allows, given the work saved and a weight in a nearer cache."""
    most = 3 / max(density, 1e-3)
    return all(_LEAST_PLAUSIBLE <= ratio <= most for ratio in choice.ratios.values())


def _whole(
    model: nn.Module, sparse: dict[str, SparseLinear], counts: tuple[int, ...], memory: Memory, again: bool
) -> Choice | None:
    """Return the measured choice for the whole model, sparse against dense; None if it cannot be measured."""
    if not sparse:
        return None
    key = f"{type(model).__name__} of {len(sparse)} | " + " || ".join(
        sorted({key_of(layer, counts) for layer in sparse.values()})
    )
    choice = memory.get(key)
    if choice is None or again:
        results = whole_ratios(model, sparse, counts)
        if results is None:
            return None
        ratios = {count: result.ratio for count, result in results.items()}
        kept = all(result.quiet for result in results.values())
        faster = not kept or min(ratios.values()) >= _NOISE  # results of a busy machine are ignored
        choice = Choice(faster, ratios, kernel_in_use(), torch.get_num_threads(), kept)
        memory.put(key, choice)
    return choice


def describe(layer: SparseLinear) -> dict[str, object]:
    """Return the description from which `again` builds a layer of the same speed."""
    return {
        "pattern": layer.pattern,
        "shape": list(layer.shape),
        "dtype": str(layer.surrounding).removeprefix("torch."),
        "layout": layer.layout,
        "bias": layer.bias is not None,
        "activation": layer.activation,
        "density": _density(layer),
    }


def _density(layer: SparseLinear) -> float:
    elements = layer.values.numel() + (0 if layer.residual_values is None else layer.residual_values.numel())
    return elements / (layer.out_features * layer.in_features)


def key_of(layer: SparseLinear, counts: tuple[int, ...]) -> str:
    """Return everything a measurement depends on, as one line of text."""
    stored = layer.out_features if layer.rows is None else layer.rows.numel()
    residual = 0 if layer.residual_values is None else layer.residual_values.numel()
    parts = (
        environment(),
        f"{layer.out_features}x{layer.in_features} {layer.surrounding} {layer.layout}",
        layer.activation if layer.bias is None else f"bias {layer.activation}",
        f"{layer.pattern} tile {layer.tile}",
        f"density {_density(layer):.3f}, {residual} single, {stored} outputs",
        "tokens " + ",".join(map(str, counts)),
    )
    return " | ".join(parts)


def environment() -> str:
    """Return the part of a key shared by all layers: the machine, the versions, the kernel and the threads."""
    from ... import __version__

    parts = (
        str(machine()["cpu"]),
        f"cache {last_cache_bytes() >> 20} MiB",
        f"torch {torch.__version__}",
        f"tilewright {__version__}",
        kernel_in_use(),
        f"{torch.get_num_threads()} threads",
    )
    return " | ".join(parts)
