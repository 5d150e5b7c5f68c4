"""Running a model once to record its operations, on tensors without values where possible, so that size costs nothing."""

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
    """Return the record of a model's run on an input.

    The model runs on tensors that have shapes but no values. If that fails, it runs again on its real tensors.

    Raises
    ------
    NotSupportedError
        If its control flow depends on values and it has none, being on the ``meta`` device.
    ArgumentError
        If it does not run on the input.
    """
    with evaluating(model), torch.no_grad():
        try:
            return _without_values(model, args, kwargs, views)
        except (*_NEEDS_VALUES, ArgumentError) as error:
            # Not every operator works without values. A real run tells whether that or the example was at fault.
            if not any(
                tensor.is_meta for tensor in (*model.parameters(), *model.buffers(), *tensors_in((args, kwargs)))
            ):
                return _with_values(model, args, kwargs, views)
            if isinstance(error, ArgumentError):
                raise
            raise NotSupportedError(
                f"the control flow of {type(model).__name__} depends on values, but it is on the meta device; build it on the CPU"
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
    fake_args, fake_kwargs = tree_map_only(Tensor, stand_in, (args, dict(kwargs)))
    recorder = Recorder(views)
    parameters_of(recorder, state)
    recorder.label((fake_args, fake_kwargs), Source())
    with _quiet(), mode, watching(recorder, model):
        _call(lambda: torch.func.functional_call(model, state, fake_args, fake_kwargs), model, args, kwargs)
    return recorder


def _with_values(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], views: Views) -> Recorder:
    recorder = Recorder(views)
    parameters_of(recorder, dict(model.named_parameters()) | dict(model.named_buffers()))
    cloned_args, cloned_kwargs = tree_map_only(Tensor, torch.clone, (args, dict(kwargs)))
    recorder.label((cloned_args, cloned_kwargs), Source())
    with watching(recorder, model):
        _call(lambda: model(*cloned_args, **cloned_kwargs), model, args, kwargs)
    return recorder


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from logging tracebacks of errors that are raised anyway."""
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
            f"{type(model).__name__} did not run on the example ({shapes}): {' '.join(str(error).split())}; pass the inputs of one call "
            "as example="
        ) from error
