"""`load` and `load_`: turn a checkpoint into a running model, without ever expanding its weights."""

import inspect
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...errors import FormatError, NotSupportedError, brief
from ...formats import Checkpoint, is_checkpoint, read_checkpoint
from ...pruning import masks_of, remove_masks_
from ..fuse import fuse_activations_
from ..install import attach_weights, unpack_named_
from ..measured.choice import Measure, check_measure, check_tokens, settle_
from ..telling import count_packed_, tell
from ..tensors import tensor_of
from .options import config_options, dtype_of, require_known, sentence_options
from .sentences import open_sentence_transformer, sentence_class

__all__ = ["load", "load_"]


def load(
    path: str | os.PathLike[str],
    *,
    tokens: int | None = None,
    measure: Measure = True,
    dense: Iterable[str] = (),
    mmap: bool = True,
    **options: Any,
) -> Any:
    """Return the model of a checkpoint as the class it was saved from, with sparse layers inside.

    Weights go from the file to the kernels without ever being expanded. Each layer is then measured once on this machine
    against its dense form, and runs dense if it would be slower; the results are cached, and `explain` gives the reasons.
    The logger ``tilewright`` reports at INFO, in one line, how many layers run sparse and dense. ``num_parameters()`` of a
    ``transformers`` model counts packed weights by their dense shape.

    Parameters
    ----------
    path
        Directory written by `save`: a ``transformers`` model or a ``SentenceTransformer``.
    tokens
        Typical number of tokens per call (batch size times length). By default a layer must be faster at both 16 and 128
        tokens to run sparse, or at 1 and 128 in a model that generates text.
    measure
        Whether to measure layers. False runs every packed layer sparse; ``"again"`` also repeats remembered measurements.
        Default: True.
    dense
        Expressions, like the targets of `sparsify_`, for layers to unpack whatever their speed, because the model's own
        code computes with their weights. Default: none.
    mmap
        Whether dense tensors are memory-mapped views of the checkpoint's files, which makes loading fast and lets processes
        share them. Mapped files must not be overwritten in place (``cp``, ``rsync --inplace``): the model would change, or
        the process would end with SIGBUS. Replacing them by rename, as `save` does, is safe. False reads the files into
        memory. Default: True.
    options
        ``dtype`` (``"float32"``, ``"float16"``, ``"bfloat16"`` or the torch type) is the type of everything that runs
        dense, and of the inputs and outputs of sparse layers, which compute in float32. Default: the type on record. All
        other options change the model's configuration, such as ``attn_implementation="eager"``, or are arguments of
        ``SentenceTransformer``.

    Raises
    ------
    FormatError
        If the directory is not a checkpoint, is damaged, or changes while it is read.
    ArgumentError
        If the model has no such option; the message suggests the closest name.
    NotSupportedError
        If the model's library is not installed, or the checkpoint is of a plain module: build that module and call `load_`.

    Examples
    --------
    >>> load("no/such/folder")
    Traceback (most recent call last):
    tilewright.errors.FormatError: no/such/folder does not exist; a checkpoint is a directory with config.json and ...
    """
    folder = Path(path)
    if not is_checkpoint(folder):
        read_checkpoint(folder)  # raises with the reason
    if (folder / "modules.json").is_file():
        transformer = _sentence_transformer(folder, options)
        return _finished(transformer if mmap else _in_memory(transformer), tokens, measure, dense)
    check_tokens(tokens)
    check_measure(measure)
    checkpoint = read_checkpoint(folder, mmap=mmap)
    dtype = dtype_of(options.pop("dtype", None))
    model = _skeleton(folder, checkpoint, options if dtype is None else {**options, "dtype": dtype})
    return _filled(model, checkpoint, folder, tokens, measure, dense, dtype).eval()


def load_(
    module: nn.Module,
    path: str | os.PathLike[str],
    *,
    tokens: int | None = None,
    measure: Measure = True,
    dense: Iterable[str] = (),
    mmap: bool = True,
) -> nn.Module:
    """Load a checkpoint into a module you have built; packed linear layers become `SparseLinear`, in place.

    Parameters
    ----------
    module
        A module of the same architecture as the one saved; its values do not matter. Built on the ``meta`` device it takes
        no memory, which is possible if all its buffers are saved.
    path, tokens, measure, dense, mmap
        As for `load`.

    Returns
    -------
    torch.nn.Module
        The same module, or its replacement if the module itself is a packed linear layer.

    Raises
    ------
    FormatError
        If the checkpoint is damaged or does not match the module. Names and shapes are checked before anything is changed.

    Examples
    --------
    >>> import tempfile, tilewright
    >>> model = nn.Sequential(nn.Linear(64, 64))
    >>> report = tilewright.sparsify_(model, "bank64@4x")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tilewright.save(model, folder)
    ...     fresh = load_(nn.Sequential(nn.Linear(64, 64)), folder, measure=False)
    >>> type(fresh[0]).__name__
    'SparseLinear'
    """
    check_tokens(tokens)
    check_measure(measure)
    return _filled(module, read_checkpoint(path, mmap=mmap), Path(path), tokens, measure, dense)


def _filled(
    module: nn.Module,
    checkpoint: Checkpoint,
    path: Path,
    tokens: int | None,
    measure: Measure,
    dense: Iterable[str],
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """Replace the tensors of a module by those of a matching checkpoint, converted to `dtype` if given."""
    _check_fit(module, checkpoint, path)
    remove_masks_(module)  # if the module was pruned itself; the checkpoint's patterns replace its own
    root = nn.Sequential()
    root.add_module("root", module)
    root.load_state_dict(_state(root, checkpoint, dtype), strict=False, assign=True)
    attach_weights(root, {f"root.{name}": weight for name, weight in checkpoint.weights.items()})
    loaded: nn.Module = _finished(root, tokens, measure, dense, "root.").get_submodule("root")
    checkpoint.check_unchanged()
    return loaded


def _state(root: nn.Module, checkpoint: Checkpoint, dtype: torch.dtype | None) -> dict[str, torch.Tensor]:
    """Return the dense tensors under all their names in the module; tied parameters remain one object."""
    names, parameters = _names(root), dict(root.named_parameters(remove_duplicate=False))
    state: dict[str, torch.Tensor] = {}
    for name, raw in checkpoint.dense.items():
        tensor = tensor_of(raw)
        if dtype is not None and tensor.is_floating_point():
            tensor = tensor.to(dtype)
        old = parameters.get(f"root.{name}")
        if old is not None:
            tensor = nn.Parameter(tensor, requires_grad=old.requires_grad and tensor.is_floating_point())
        state |= dict.fromkeys(names[f"root.{name}"], tensor)
    return state


def _names(module: nn.Module) -> dict[str, list[str]]:
    """Return for each name all names of its tensor, more than one if it is tied."""
    same: dict[int, list[str]] = {}
    tensors = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    for name, tensor in tensors:
        same.setdefault(id(tensor), []).append(name)
    return {name: same[id(tensor)] for name, tensor in tensors}


def _check_fit(module: nn.Module, checkpoint: Checkpoint, path: Path) -> None:
    state, names = module.state_dict(keep_vars=True), _names(module)  # the tensors themselves, to recognise masks
    empty = [name for name, buffer in module.named_buffers() if buffer.is_meta and name not in state]
    if empty:
        raise FormatError(
            f"{empty[0]} is a buffer that checkpoints do not store, and on the meta device it has no values; build the module on the CPU"
        )
    given = {name: raw.shape for name, raw in checkpoint.dense.items()}
    given |= {name: tuple(weight.original_shape) for name, weight in checkpoint.weights.items()}
    covered = {twin for name in given if name in state for twin in names[name]}
    masks = {id(mask) for mask in masks_of(module).values()}
    missing = [name for name, tensor in state.items() if name not in covered and id(tensor) not in masks]
    unknown = [name for name in given if name not in state]
    if missing or unknown:
        raise FormatError(
            f"{path} does not match this {type(module).__name__}: "
            + "; ".join(
                f"{len(names)} {what}, first {names[0]}"
                for names, what in (
                    (missing, "tensors are missing from the checkpoint"),
                    (unknown, "tensors are unknown to the module"),
                )
                if names
            )
            + ". Build the module the checkpoint was saved from"
        )
    for name, shape in given.items():
        if tuple(state[name].shape) != tuple(shape):
            raise FormatError(f"{name} has shape {list(shape)} in {path}, but {list(state[name].shape)} in the module")


def _finished(model: Any, tokens: int | None, measure: Measure, dense: Iterable[str], prefix: str = "") -> Any:
    unpack_named_(model, dense, prefix)
    fuse_activations_(model)
    if measure:
        settle_(model, tokens, measure)
    count_packed_(model)
    tell(model, type(model.root if prefix else model).__name__)
    return model


def _in_memory(model: Any) -> Any:
    """Replace the memory-mapped tensors of a model by copies in memory."""
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()
    return model


def _sentence_transformer(folder: Path, options: dict[str, Any]) -> Any:
    return open_sentence_transformer(str(folder), **sentence_options(sentence_class(), options))


def _skeleton(folder: Path, checkpoint: Checkpoint, options: dict[str, Any]) -> Any:
    """Return the transformers model a checkpoint was saved from, with parameters allocated but not initialised."""
    names = checkpoint.config.get("architectures")
    names = names if isinstance(names, list) and names and isinstance(names[0], str) else ["class that is not recorded"]
    try:
        import transformers
        from transformers.initialization import no_init_weights
    except ImportError:
        raise NotSupportedError(
            f"{folder} contains a {names[0]}; install tilewright[hf] to load it, or build the module and call load_"
        ) from None
    cls = getattr(transformers, str(names[0]), None)
    if getattr(cls, "config_class", None) is None:
        raise NotSupportedError(
            f"{folder} was saved from a {names[0]}, which is not a class of transformers; build the module yourself and call "
            "tilewright.load_(module, path)"
        )
    assert cls is not None
    require_known(options, config_options(cls.config_class), cls.__name__)
    try:
        config = cls.config_class.from_dict(dict(checkpoint.config), **options)
        built = _built_as(cls, config, {*checkpoint.dense, *checkpoint.weights})
        with no_init_weights(), _default_dtype(config.dtype):
            model = cls(config, **built)
        model.tie_weights()
    except Exception as error:  # the library may raise anything for an invalid configuration
        raise FormatError(f"{folder}/config.json does not describe a valid {names[0]}: {brief(error)}") from error
    model.save_pretrained = _refuse_to_save  # it would write the layers' working arrays, which no reader knows
    if (folder / "generation_config.json").is_file():
        try:
            model.generation_config = transformers.GenerationConfig.from_pretrained(folder)
        except Exception as error:
            raise FormatError(f"{folder}/generation_config.json cannot be read: {brief(error)}") from error
    return model


def _built_as(cls: Any, config: Any, names: set[str]) -> dict[str, bool]:
    """Return the boolean arguments of a class's constructor that yield a model with tensors of these names.

    A configuration does not record that a BERT was built with ``add_pooling_layer=False``, but the names reveal it. Models
    on the meta device cost nothing, so each argument is tried. Defaults are kept unless another value fits better.
    """
    switches = {
        name: parameter.default
        for name, parameter in inspect.signature(cls.__init__).parameters.items()
        if isinstance(parameter.default, bool)
    }
    with torch.device("meta"):
        best: dict[str, bool] = {}
        fewest = len(set(cls(config).state_dict()) ^ names)
        for name, default in switches.items():
            trial = {**best, name: not default}
            differing = len(set(cls(config, **trial).state_dict()) ^ names) if fewest else 0
            if differing < fewest:
                best, fewest = trial, differing
    return best


@contextmanager
def _default_dtype(dtype: object) -> Iterator[None]:
    """Create parameters in the type that a configuration names, as ``from_pretrained`` does."""
    before = torch.get_default_dtype()
    if isinstance(dtype, torch.dtype):
        torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _refuse_to_save(*_: object, **__: object) -> None:
    raise FormatError("a packed model cannot be written by save_pretrained; use tilewright.save(model, path)")
