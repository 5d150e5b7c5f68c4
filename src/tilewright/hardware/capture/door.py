"""`capture` and `capture_checkpoint`: the public functions of the capture."""

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
"""Assumed number of tensors in a dense model, whose files are not opened; it bounds the number of layers."""

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
    """Return the operations of one call of a model.

    The model runs once on tensors that have shapes but no values, so its size does not matter, and neither does whether
    its weights exist (they may be on the ``meta`` device). Weights with masks (see `tilewright.sparsify_`) and packed
    layers contribute their actual counts; all others are dense. Steps that depend on no input are computed beforehand and
    left out, as are views and copies in another layout. Batch norm is folded into the convolution before it, and
    consecutive element-wise steps of one module become one operation.

    Parameters
    ----------
    model
        Any module. It is run in evaluation mode, and its training mode is restored afterwards.
    example
        The inputs of one call: a tensor, a tuple of positional arguments, or a mapping of keyword arguments. Values are
        ignored. Optional for models of ``transformers`` that take ``input_ids`` or ``pixel_values``.
    batch
        Batch size. Default: the first dimension of the example, or 1.
    sequence
        Tokens per sample if no example is given. Default: 128, or the longest sequence of a model that takes less.
    name
        Name of the workload. Default: the class of the model.
    views
        Weights by parameter name, used instead of those of the model. Default: None.

    Returns
    -------
    Workload
        The operations. Steps that no operation represents are counted in its `unmodelled`.

    Raises
    ------
    ArgumentError
        If the model does not run on the example, or needs one.
    NotSupportedError
        If the control flow of the model depends on values that it does not have.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8))
    >>> [(o.name, o.kind, o.M, o.N, o.K) for o in capture(model, torch.zeros(5, 64))]
    [('0', 'linear', 5, 32, 64), ('1', 'elementwise', 0, 0, 0), ('2', 'linear', 5, 8, 32)]
    """
    args, kwargs = call_of(model, example, batch, sequence)
    samples = _samples((args, kwargs))
    recorder = record(model, args, kwargs, views or Views.of_model(model))
    return Workload(name or type(model).__name__, tuple(recorder.operations), samples, dict(recorder.unmodelled))


def call_of(
    model: nn.Module, example: Any, batch: int | None, sequence: int | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments that `capture` calls a model with; the tensors of a default example are on the meta device."""
    args, kwargs = _arguments(_default(model, sequence) if example is None else example)
    samples = _samples((args, kwargs))
    if batch is not None and batch < 1:
        raise ArgumentError(f"batch must be at least 1, got {batch}")
    if batch is None or batch == samples:
        return args, kwargs
    resized: tuple[tuple[Any, ...], dict[str, Any]] = tree_map_only(
        Tensor, lambda tensor: _resized(tensor, samples, batch), (args, kwargs)
    )
    return resized


def capture_checkpoint(
    path: str | os.PathLike[str], example: Any = None, *, batch: int | None = None, sequence: int | None = None
) -> Workload:
    """Return the operations of a checkpoint's model, with its weights as packed on disk; none is unpacked.

    Parameters
    ----------
    path
        A directory written by `tilewright.save`, or that of a ``transformers`` model, whose weights are taken as dense. For a
        ``SentenceTransformer``, its transformer is used.
    example, batch, sequence
        As for `capture`.

    Returns
    -------
    Workload
        The operations, as from `capture`.

    Raises
    ------
    FormatError
        If the directory is not a checkpoint, or is damaged.
    NotSupportedError
        If the model's class is not part of ``transformers``.
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
        raise FormatError(f"{folder} has no config.json; pass the folder of a model")
    return capture(model, example, batch=batch, sequence=sequence, name=folder.resolve().name, views=views)


def _config(folder: Path) -> dict[str, Any]:
    where = f"{folder}/config.json"
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{where} is not readable JSON: {brief(error)}") from None
    if not isinstance(config, dict):
        raise FormatError(f"{where} must hold a JSON object; pass the folder of a model")
    check_config(config, _MOST_TENSORS, where)
    return config


def model_class(folder: Path, config: Mapping[str, Any] | None = None) -> Any:
    """Return the class of ``transformers`` that a configuration names; by default the folder's ``config.json``.

    Raises
    ------
    FormatError
        If the configuration cannot be read.
    NotSupportedError
        If it names no class of ``transformers``, or ``transformers`` is not installed.
    """
    names = (_config(folder) if config is None else config).get("architectures")
    name = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else "model of unknown class"
    try:
        import transformers
    except ImportError:
        raise NotSupportedError(
            f"{folder} is a {name}; install tilewright[hf] to simulate it, or build the module and pass that"
        ) from None
    cls = getattr(transformers, name, None)
    if getattr(cls, "config_class", None) is None:
        raise NotSupportedError(
            f"{folder} was saved from a {name}, which is not a class of transformers; build the module, load it with tilewright.load_ "
            "and pass it with an example"
        )
    return cls


def _skeleton(folder: Path, config: Mapping[str, Any]) -> nn.Module:
    """Return the model that a configuration describes, on the meta device."""
    cls = model_class(folder, config)
    from transformers.initialization import no_init_weights

    try:
        with no_init_weights(), torch.device("meta"):
            model: nn.Module = cls(cls.config_class.from_dict(dict(config)))
    except Exception as error:  # transformers raises many kinds for configurations that it cannot use
        raise FormatError(f"{folder}/config.json does not describe a valid {cls.__name__}: {brief(error)}") from error
    return model


def _check_names(folder: Path, model: nn.Module, weights: Mapping[str, Any]) -> None:
    known = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    strange = [name for name in weights if name not in known]
    if strange:
        raise FormatError(
            f"{folder} holds {strange[0]}, which {type(model).__name__} does not have; build the module it was saved from, load it "
            "with tilewright.load_ and pass it with an example"
        )


def _default(model: nn.Module, sequence: int | None) -> dict[str, Tensor]:
    """Return an example of one sample for a model of ``transformers``."""
    config, main = getattr(model, "config", None), getattr(model, "main_input_name", None)
    if config is None or main not in ("input_ids", "pixel_values"):
        raise ArgumentError(
            f"the inputs of {type(model).__name__} are not known; pass those of one call as example=, such as torch.zeros(1, 128)"
        )
    if main == "pixel_values":
        size = getattr(config, "image_size", None) or 224
        height, width = (size, size) if isinstance(size, int) else size
        return {"pixel_values": torch.empty(1, getattr(config, "num_channels", 3), height, width, device="meta")}
    most = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or _LENGTH
    tokens = sequence or min(_LENGTH, most)
    if tokens < 1 or tokens > most:
        raise ArgumentError(f"{type(model).__name__} takes sequences of 1 to {most} tokens, got {tokens}")
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
        raise ArgumentError("the example contains no tensor; pass the inputs of one call as example=")
    return first.shape[0]


def _resized(tensor: Tensor, old: int, new: int) -> Tensor:
    if not tensor.ndim or tensor.shape[0] != old:
        return tensor
    return tensor.new_empty((new, *tensor.shape[1:]))
