"""Running a model once to see what it does: on tensors without values where possible, so that size costs nothing."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
)
from torch.utils._pytree import tree_map_only

from ...errors import ArgumentError, NotSupportedError
from ...graph import evaluating
from .modes import watching
from .recorder import Recorder, Source, parameters_of, tensors_in
from .weights import Views

__all__ = ["record"]

_NEEDS_VALUES = (DataDependentOutputException, DynamicOutputShapeException, UnsupportedFakeTensorException)


def record(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], views: Views) -> Recorder:
    """Return what a model does with an input.

    It runs on tensors that have shapes and no values. A model that cannot do without values runs once more, on its own.

    Raises
    ------
    NotSupportedError
        If its course depends on values and it has none, being on the ``meta`` device.
    ArgumentError
        If it does not take the input.
    """
    with evaluating(model), torch.no_grad():
        try:
            return _without_values(model, args, kwargs, views)
        except (*_NEEDS_VALUES, ArgumentError) as error:
            # Not every step of torch can do without values; whether it was that or the example, a real run tells.
            if not any(
                tensor.is_meta for tensor in (*model.parameters(), *model.buffers(), *tensors_in((args, kwargs)))
            ):
                return _with_values(model, args, kwargs, views)
            if isinstance(error, ArgumentError):
                raise
            raise NotSupportedError(
                f"what {type(model).__name__} does depends on values, and on the meta device it has none; build it on the CPU"
            ) from error


def _without_values(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], views: Views) -> Recorder:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    stand_ins: dict[int, Tensor] = {}

    def stand_in(tensor: Tensor) -> Tensor:
        if id(tensor) not in stand_ins:
            with mode:
                stand_ins[id(tensor)] = torch.empty_strided(
                    tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu"
                )
        return stand_ins[id(tensor)]

    tensors = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    state = {name: stand_in(tensor) for name, tensor in tensors.items()}
    given_args, given_kwargs = tree_map_only(Tensor, stand_in, (args, dict(kwargs)))
    recorder = Recorder(views)
    parameters_of(recorder, state)
    recorder.label((given_args, given_kwargs), Source())
    with _quiet(), mode, watching(recorder, model):
        _call(lambda: torch.func.functional_call(model, state, given_args, given_kwargs), model, args, kwargs)
    return recorder


def _with_values(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], views: Views) -> Recorder:
    recorder = Recorder(views)
    parameters_of(recorder, dict(model.named_parameters()) | dict(model.named_buffers()))
    given_args, given_kwargs = tree_map_only(Tensor, torch.clone, (args, dict(kwargs)))
    recorder.label((given_args, given_kwargs), Source())
    with watching(recorder, model):
        _call(lambda: model(*given_args, **given_kwargs), model, args, kwargs)
    return recorder


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from logging a traceback for what is raised as an error anyway."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _call(run: Any, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    try:
        run()
    except _NEEDS_VALUES:
        raise
    except (TypeError, RuntimeError, ValueError, IndexError) as error:
        shapes = ", ".join(str(list(tensor.shape)) for tensor in tensors_in((args, dict(kwargs)))) or "no tensors"
        raise ArgumentError(
            f"{type(model).__name__} did not run on the example ({shapes}): {' '.join(str(error).split())}; give the inputs of one call "
            "as example="
        ) from error
