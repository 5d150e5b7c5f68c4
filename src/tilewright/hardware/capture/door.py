"""`capture` and `capture_checkpoint`: the two ways in."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from ...errors import ArgumentError, FormatError, NotSupportedError, brief
from ...formats import check_config, is_checkpoint, read_checkpoint
from ..workload import Workload
from .recorder import tensors_in
from .running import record
from .weights import Views

__all__ = ["call_of", "capture", "capture_checkpoint", "model_class"]

_MOST_TENSORS = 1000
"""Taken for the number of a dense model's tensors, which are not looked at: it bounds the layers."""

_LENGTH = 128


def capture(
    model: nn.Module,
    example: Any = None,
    *,
    batch: int | None = None,
    sequence: int | None = None,
    name: str = "",
    views: Views | None = None,
) -> Workload:
    """Return what a model does as a list of operations.

    The model runs once on tensors that have shapes and no values, so that its size, and whether its weights exist at all
    (device ``meta``), does not matter. Weights with masks (see `tilewright.sparsify_`) and packed layers give their own counts,
    others are dense. What depends on no input is computed before and left out, and so are views and copies in another layout. Batch
    norm goes into the convolution before it, and steps that follow each other element by element in one module are one.

    Parameters
    ----------
    model
        Any module. It is run in evaluation mode and left as it was.
    example
        What to call it with: a tensor, a tuple of positional or a mapping of keyword arguments. Values do not matter. May be
        left out for models of ``transformers`` that take ``input_ids`` or ``pixel_values``.
    batch
        Samples; the example's own first dimension unless told.
    sequence
        Tokens of a sample where no example is given; 128, or what the model takes at most, unless told.
    name
        Of the workload; the class of the model unless told.
    views
        Weights by parameter name, instead of those of the model.

    Returns
    -------
    Workload
        Steps that no operation stands for are counted in its `unmodelled`.

    Raises
    ------
    ArgumentError
        If the model does not run on the example, or needs one.
    NotSupportedError
        If its course depends on values that it does not have.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8))
    >>> [(o.name, o.kind, o.M, o.N, o.K) for o in capture(model, torch.zeros(5, 64))]
    [('0', 'linear', 5, 32, 64), ('1', 'elementwise', 0, 0, 0), ('2', 'linear', 5, 8, 32)]
    """
    args, kwargs = call_of(model, example, batch, sequence)
    samples = _samples((args, kwargs))
    found = record(model, args, kwargs, views or Views.of_model(model))
    return Workload(name or type(model).__name__, tuple(found.operations), samples, dict(found.unmodelled))


def call_of(
    model: nn.Module, example: Any, batch: int | None, sequence: int | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments that `capture` calls a model with; tensors of the default example are on the meta device."""
    args, kwargs = _arguments(_default(model, sequence) if example is None else example)
    own = _samples((args, kwargs))
    if batch is not None and batch < 1:
        raise ArgumentError(f"a batch has at least one sample, and {batch} were asked for")
    if batch is None or batch == own:
        return args, kwargs
    resized: tuple[tuple[Any, ...], dict[str, Any]] = tree_map_only(
        Tensor, lambda tensor: _resized(tensor, own, batch), (args, kwargs)
    )
    return resized


def capture_checkpoint(
    path: str | os.PathLike[str], example: Any = None, *, batch: int | None = None, sequence: int | None = None
) -> Workload:
    """Return what the model of a checkpoint does, its weights as they are packed on disk; none is expanded.

    Parameters
    ----------
    path
        Directory written by `tilewright.save`, or any directory of a ``transformers`` model, whose weights then count as dense. Of a
        ``SentenceTransformer`` the transformer is taken.
    example, batch, sequence
        As for `capture`.

    Raises
    ------
    FormatError
        If the directory is no checkpoint, or a damaged one.
    NotSupportedError
        If the model is no class of ``transformers``.
    """
    folder = Path(path)
    if is_checkpoint(folder):
        checkpoint = read_checkpoint(folder)
        model = _skeleton(folder, checkpoint.config)
        _check_names(folder, model, checkpoint.weights)
        views = Views.of_stored(checkpoint.weights)
    elif (folder / "config.json").is_file():
        model, views = _skeleton(folder, _config(folder)), Views({})
    else:
        raise FormatError(f"{folder} holds no config.json; name the folder of a model")
    return capture(model, example, batch=batch, sequence=sequence, name=folder.resolve().name, views=views)


def _config(folder: Path) -> dict[str, Any]:
    where = f"{folder}/config.json"
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{where} is not readable JSON: {brief(error)}") from None
    if not isinstance(config, dict):
        raise FormatError(f"{where} must hold an object; name the folder of a model")
    check_config(config, _MOST_TENSORS, where)
    return config


def model_class(folder: Path, config: Mapping[str, Any] | None = None) -> Any:
    """Return the class of ``transformers`` that a configuration names, of the folder's own ``config.json`` unless given.

    Raises
    ------
    FormatError
        If the configuration cannot be read.
    NotSupportedError
        If it names no such class, or ``transformers`` is not installed.
    """
    names = (_config(folder) if config is None else config).get("architectures")
    wanted = (
        names[0] if isinstance(names, list) and names and isinstance(names[0], str) else "class that is not recorded"
    )
    try:
        import transformers
    except ImportError:
        raise NotSupportedError(
            f"{folder} is a {wanted}; install tilewright[hf] to simulate it, or build the module and pass it"
        ) from None
    cls = getattr(transformers, wanted, None)
    if getattr(cls, "config_class", None) is None:
        raise NotSupportedError(
            f"{folder} was saved from a {wanted}, which is no class of transformers; build the module, load it with tilewright.load_ and "
            "pass it with an example"
        )
    return cls


def _skeleton(folder: Path, config: Mapping[str, Any]) -> nn.Module:
    """Return the model that a configuration describes, without values."""
    cls = model_class(folder, config)
    from transformers.initialization import no_init_weights

    try:
        with no_init_weights(), torch.device("meta"):
            model: nn.Module = cls(cls.config_class.from_dict(dict(config)))
    except Exception as error:  # whatever a library makes of a configuration that it cannot take
        raise FormatError(f"{folder}/config.json does not make a {cls.__name__}: {brief(error)}") from error
    return model


def _check_names(folder: Path, model: nn.Module, weights: Mapping[str, Any]) -> None:
    known = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    strange = [name for name in weights if name not in known]
    if strange:
        raise FormatError(
            f"{folder} holds {strange[0]}, which {type(model).__name__} does not have; build the module it was saved from, load it with "
            "tilewright.load_ and pass it with an example"
        )


def _default(model: nn.Module, sequence: int | None) -> dict[str, Tensor]:
    """Return one sample for a model of transformers."""
    config, main = getattr(model, "config", None), getattr(model, "main_input_name", None)
    if config is None or main not in ("input_ids", "pixel_values"):
        raise ArgumentError(
            f"what {type(model).__name__} takes is not known; give the inputs of one call as example=, such as torch.zeros(1, 128)"
        )
    if main == "pixel_values":
        size = getattr(config, "image_size", None) or 224
        height, width = (size, size) if isinstance(size, int) else size
        return {"pixel_values": torch.empty(1, getattr(config, "num_channels", 3), height, width, device="meta")}
    most = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or _LENGTH
    tokens = sequence or min(_LENGTH, most)
    if tokens < 1 or tokens > most:
        raise ArgumentError(
            f"{type(model).__name__} takes sequences of 1 to {most} tokens, and {tokens} were asked for"
        )
    ids = torch.empty(1, tokens, dtype=torch.int64, device="meta")
    twice = getattr(config, "is_encoder_decoder", False)
    return {"input_ids": ids, "decoder_input_ids": ids.clone()} if twice else {"input_ids": ids}


def _arguments(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(example, Mapping):
        return (), dict(example)
    return (tuple(example), {}) if isinstance(example, tuple | list) else ((example,), {})


def _samples(example: Any) -> int:
    first = next((tensor for tensor in tensors_in(example) if tensor.ndim), None)
    if first is None:
        raise ArgumentError("the example holds no tensor; give the inputs of one call as example=")
    return first.shape[0]


def _resized(tensor: Tensor, old: int, new: int) -> Tensor:
    if not tensor.ndim or tensor.shape[0] != old:
        return tensor
    return tensor.new_empty((new, *tensor.shape[1:]))
