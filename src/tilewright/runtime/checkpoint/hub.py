"""Registration with ``transformers``, so that its ``from_pretrained`` reads packed checkpoints. Importing this file registers, once.

`tilewright.hooks` imports it as soon as both packages are imported. Loading takes two steps around that of the library.
Before the library reads the file, every packed layer is replaced by a stand-in that only has the bias; the library fills in
all dense tensors. Afterwards the stand-ins become `SparseLinear`, or get their weight back unpacked if there is no kernel.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from ...errors import FormatError
from ...formats import Checkpoint, read_checkpoint
from ..install import attach_weights, has_kernel, set_submodule

__all__: list[str] = []

_PACKED_TENSORS = r"\.(values|index|inner|rows|residual_values|residual_index)$"


class _Awaiting(nn.Module):
    """Stand-in for a linear layer until its packed weight is attached; holds the bias, which the library loads."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.original = [module]  # in a list: not a submodule, so its weight is neither loaded nor initialised
        self.register_parameter("bias", getattr(module, "bias", None))
        for name in ("in_features", "out_features", "nf", "nx"):
            if hasattr(module, name):
                setattr(self, name, getattr(module, name))
        self.weight = _placeholder()


def _placeholder() -> torch.Tensor:
    """Return an empty tensor marked as initialised, because some models initialise layers by name."""
    tensor = torch.empty(0)
    tensor._is_hf_initialized = True  # type: ignore[attr-defined]
    return tensor


@register_quantization_config("tilewright")
class TilewrightConfig(QuantizationConfigMixin):  # type: ignore[misc,unused-ignore]
    """The ``quantization_config`` block of a checkpoint."""

    def __init__(self, **block: Any) -> None:
        self.quant_method: Any = "tilewright"
        for name, value in block.items():
            setattr(self, name, value)


@register_quantizer("tilewright")
class TilewrightQuantizer(HfQuantizer):  # type: ignore[misc,unused-ignore]
    """Replaces packed layers around the library's own loading."""

    requires_calibration = True

    def __init__(self, quantization_config: Any, **options: Any) -> None:
        super().__init__(quantization_config, **options)
        self.checkpoint: Checkpoint | None = None
        self.names: dict[str, str] = {}
        self.unpacked: dict[str, nn.Parameter | None] = {}

    def _process_model_before_weight_loading(
        self, model: nn.Module, checkpoint_files: list[str] | None = None, **_: Any
    ) -> nn.Module:
        self.checkpoint = read_checkpoint(_folder(checkpoint_files))
        self.names = _local_names(model, self.checkpoint)
        self.unpacked = {}
        for name, weight in self.checkpoint.weights.items():
            owner, parameter = self.names[name].rpartition(".")[::2]
            if not _has(model, self.names[name]):
                continue  # reported when attaching
            module = model.get_submodule(owner)
            if has_kernel(module, parameter, weight.layout):
                set_submodule(model, owner, _Awaiting(module))
            else:  # hidden from the library, which would compare it with the file's empty tensor
                self.unpacked[self.names[name]] = module._parameters.pop(parameter)
                setattr(module, parameter, _placeholder())
        guards = {rf"^{re.escape(name)}$" for names in self.names.items() for name in names}
        _extend(model, "_keys_to_ignore_on_load_unexpected", {_PACKED_TENSORS, *guards})
        return model

    def _process_model_after_weight_loading(self, model: nn.Module, **_: Any) -> nn.Module:
        assert self.checkpoint is not None
        for name in self.checkpoint.weights:
            owner, parameter = self.names[name].rpartition(".")[::2]
            if self.names[name] in self.unpacked:
                module = model.get_submodule(owner)
                delattr(module, parameter)
                module.register_parameter(parameter, self.unpacked.pop(self.names[name]))
            stand_in = model.get_submodule(owner) if _has(model, f"{owner}.original") else None
            if isinstance(stand_in, _Awaiting):
                original = stand_in.original[0]
                original.bias = stand_in.bias
                set_submodule(model, owner, original)
        attach_weights(model, {self.names[name]: weight for name, weight in self.checkpoint.weights.items()})
        self.checkpoint.check_unchanged()
        self.checkpoint = None
        return model

    def get_state_dict_and_metadata(self, model: nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        """Raise: ``save_pretrained`` would write the working arrays of sparse layers, which no reader knows."""
        raise FormatError("a packed model cannot be written by save_pretrained; use tilewright.save(model, path)")

    def is_serializable(self, **_: Any) -> bool:
        return True

    @property
    def is_trainable(self) -> bool:
        return False


def _extend(model: nn.Module, attribute: str, expressions: set[str]) -> None:
    """Add to one of the lists of names that the library ignores, for this model only."""
    setattr(model, attribute, set(getattr(model, attribute, None) or ()) | expressions)


def _folder(files: list[str] | None) -> Path:
    if not files:
        raise FormatError("the checkpoint has no model file; it must contain model.safetensors or its shards")
    return Path(files[0]).parent


def _local_names(model: nn.Module, checkpoint: Checkpoint) -> dict[str, str]:
    """Return the model's name of every packed weight; base models and models with a head differ by a prefix."""
    base = f"{getattr(model, 'base_model_prefix', '')}."
    inside = hasattr(model, base[:-1])
    local = {}
    for name in checkpoint.weights:
        if base != "." and inside and not name.startswith(base) and not _has(model, name):
            local[name] = base + name
        elif base != "." and not inside and name.startswith(base):
            local[name] = name.removeprefix(base)
        else:
            local[name] = name
    return local


def _has(model: nn.Module, name: str) -> bool:
    try:
        return hasattr(model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2])
    except AttributeError:
        return False
