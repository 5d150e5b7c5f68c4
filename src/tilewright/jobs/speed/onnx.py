"""Models as ONNX: what the dense engines read, and what `tilewright export --to onnx` writes."""

import importlib.util
import logging
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import NotSupportedError
from ..tasks.calling import answer_of, uncached

__all__ = ["require_packages", "write_onnx"]

_LENGTHS = {
    "input_ids": "length",
    "attention_mask": "length",
    "token_type_ids": "length",
    "position_ids": "length",
    "decoder_input_ids": "target",
    "decoder_attention_mask": "target",
}
"""Inputs whose second axis is free as well, and what it is called."""


def write_onnx(model: nn.Module, example: Mapping[str, Tensor], file: Path) -> None:
    """Write a dense model as ONNX: its inputs by name, one output ``y``, any batch and any length of text.

    Parameters
    ----------
    model
        Without sparse layers: see `tilewright.runtime.densified`.
    example
        Inputs of one call, tensors by name, at least two items and, of text, two tokens.
    file
        Written whole.

    Raises
    ------
    NotSupportedError
        If a package is missing, or torch's exporter cannot convert the model.
    """
    require_packages("onnxscript", "onnx")
    names = list(example)
    shapes = {name: _free(name) for name in names}
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _Named(model, names).eval(),
                tuple(_marked(example).values()),
                str(file),
                input_names=names,
                output_names=["y"],
                dynamic_shapes=(tuple(shapes.values()),),
                dynamo=True,
                verbose=False,
            )
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        raise NotSupportedError(
            f"torch's exporter cannot write {type(model).__name__} as ONNX ({str(error).splitlines()[0]}); of the engines to compare with, "
            "torch alone needs no ONNX"
        ) from error
    finally:
        logger.setLevel(level)


def require_packages(*packages: str) -> None:
    """Refuse to go on without packages that an engine needs."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise NotSupportedError(
                f"comparing with this engine needs the package {package}: pip install 'tilewright[peers]'"
            )


class _Named(nn.Module):
    """Calls a model with keywords, and returns the one tensor that its answer is."""

    def __init__(self, model: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.model, self.names, self.extra = model, names, uncached(model)

    def forward(self, *tensors: Tensor) -> Tensor:
        return answer_of(self.model(**dict(zip(self.names, tensors, strict=True)), **self.extra))


def _free(name: str) -> dict[int, Any]:
    """Return the free axes of an input."""
    axes: dict[int, Any] = {0: torch.export.Dim("batch")}
    return axes | ({1: torch.export.Dim(_LENGTHS[name])} if name in _LENGTHS else {})


def _marked(example: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the example with some padding, so that no mask is taken for one that is always full."""
    inputs = {name: tensor.clone() for name, tensor in example.items()}
    mask = inputs.get("attention_mask")
    if mask is not None and mask.ndim == 2 and mask.shape[1] > 2:
        mask[-1, mask.shape[1] // 2 + 1 :] = 0
    return inputs
