"""Write models as ONNX, for the dense engines and for `tilewright export --to onnx`."""

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
"""Inputs whose second axis is dynamic as well, and the name of that axis."""


def write_onnx(model: nn.Module, example: Mapping[str, Tensor], file: Path) -> None:
    """Write a dense model as ONNX, with named inputs, one output ``y``, and dynamic batch size and text length.

    Parameters
    ----------
    model
        Model without sparse layers; see `tilewright.runtime.densified`.
    example
        Inputs of one call, tensors by name, with at least two items and, for text, at least two tokens.
    file
        File to write.

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
            f"torch's exporter cannot write {type(model).__name__} as ONNX ({str(error).splitlines()[0]}); to compare speed without ONNX, "
            "use torch as the only peer"
        ) from error
    finally:
        logger.setLevel(level)


def require_packages(*packages: str) -> None:
    """Raise `NotSupportedError` if a package that an engine needs is not installed."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise NotSupportedError(f"this engine needs the package {package}: pip install 'tilewright[peers]'")


class _Named(nn.Module):
    """Wrap a model so that it takes positional tensors and returns its output as a single tensor."""

    def __init__(self, model: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.model, self.names, self.extra = model, names, uncached(model)

    def forward(self, *tensors: Tensor) -> Tensor:
        return answer_of(self.model(**dict(zip(self.names, tensors, strict=True)), **self.extra))


def _free(name: str) -> dict[int, Any]:
    """Return the dynamic axes of an input."""
    axes: dict[int, Any] = {0: torch.export.Dim("batch")}
    return axes | ({1: torch.export.Dim(_LENGTHS[name])} if name in _LENGTHS else {})


def _marked(example: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the example with some padding, so that the exporter does not assume a mask without padding."""
    inputs = {name: tensor.clone() for name, tensor in example.items()}
    mask = inputs.get("attention_mask")
    if mask is not None and mask.ndim == 2 and mask.shape[1] > 2:
        mask[-1, mask.shape[1] // 2 + 1 :] = 0
    return inputs
