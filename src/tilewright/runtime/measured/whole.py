"""Timing the whole model: with the sparse layers that were chosen, against all of them dense."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from ...graph import evaluating
from ..install import dense_twin, set_submodule
from ..layer import SparseLinear
from .timing import Timing, in_turns

__all__ = ["whole_ratios"]


def whole_ratios(
    model: nn.Module, sparse: Mapping[str, SparseLinear], counts: tuple[int, ...]
) -> dict[int, Timing] | None:
    """Return the timings of a model, dense against sparse, by number of tokens.

    A transformers model that takes token ids is called as a whole; for any other model the layers are called one after another.
    Returns None if there is not enough memory for the dense forms.

    Parameters
    ----------
    model
        The model with its sparse layers in place; it is unchanged afterwards.
    sparse
        The sparse layers by module name.
    counts
        Numbers of tokens per call to measure.
    """
    dense_bytes = sum(4 * layer.out_features * layer.in_features for layer in sparse.values())
    if 2 * dense_bytes > _free_memory():
        return None
    twins = {name: dense_twin(layer) for name, layer in sparse.items()}
    caller = _caller(model)
    results: dict[int, Timing] = {}
    with evaluating(model):
        for count in counts:
            if caller is not None:
                results[count] = _called(model, sparse, twins, caller(count))
            else:
                results[count] = _chained(sparse, twins, count)
    return results


def _called(
    model: nn.Module, sparse: Mapping[str, nn.Module], twins: Mapping[str, nn.Module], call: Callable[[], object]
) -> Timing:
    """Time calls of the model, exchanging its layers between them."""

    def with_layers(layers: Mapping[str, nn.Module]) -> Callable[[], int]:
        def run() -> int:
            for name, layer in layers.items():
                set_submodule(model, name, layer)
            call()
            return 1

        return run

    try:
        with torch.inference_mode():
            return in_turns(with_layers(twins), with_layers(sparse))
    finally:
        for name, layer in sparse.items():
            set_submodule(model, name, layer)


def _chained(sparse: Mapping[str, SparseLinear], twins: Mapping[str, nn.Module], count: int) -> Timing:
    """Time the layers called one after another, each on an input of its own size."""
    inputs = {
        (layer.in_features, layer.surrounding): torch.randn(count, layer.in_features).to(layer.surrounding)
        for layer in sparse.values()
    }

    def all_of(layers: Mapping[str, nn.Module]) -> Callable[[], int]:
        def run() -> int:
            for name, layer in layers.items():
                layer(inputs[sparse[name].in_features, sparse[name].surrounding])
            return 1

        return run

    with torch.inference_mode():
        return in_turns(all_of(twins), all_of(sparse))


def _caller(model: nn.Module) -> Callable[[int], Callable[[], object]] | None:
    """Return a function that makes a call of the model for a number of tokens; None if it is not known how to call it."""
    for module in model.modules():
        config: Any = getattr(module, "config", None)
        size = getattr(config, "vocab_size", None)
        if getattr(module, "main_input_name", "") == "input_ids" and isinstance(size, int):
            if getattr(config, "is_encoder_decoder", False):
                return None
            most = getattr(config, "max_position_embeddings", None)
            return lambda count: _on_ids(module, size, min(count, most - 2 if isinstance(most, int) else count))
    return None


def _on_ids(module: nn.Module, vocabulary: int, count: int) -> Callable[[], object]:
    ids = torch.randint(0, vocabulary, (1, max(1, count)), generator=torch.Generator().manual_seed(0))
    return lambda: module(input_ids=ids)


def _free_memory() -> int:
    """Return the free memory in bytes; a very large number if the system does not report it."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 1 << 62
