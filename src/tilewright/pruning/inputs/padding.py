"""Which positions of a batch are real and which are padding, and how to find them in a layer's inputs.

A mask is ``[B, T]``. Layers see the same positions as ``[B, T, K]``, time first as ``[T, B, K]``, or flattened as ``[B * T, K]``;
encoder-decoder models have two masks. If the shape of the inputs leaves it open which of these applies, an error or a warning says so
instead of a guess being made.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ArgumentError

__all__ = ["Padding", "PaddingReader", "masks_in", "told_apart"]

_IGNORED = -100
"""Label that torch and transformers ignore in the loss."""


@dataclass(frozen=True, eq=False)
class Padding:
    """The masks of one batch.

    Parameters
    ----------
    masks
        Bool tensors, True for real positions, all of different shapes.
    time_first
        Whether the model has modules that put time before the batch. Default: False.
    told
        Shapes already warned about; shared by the batches of a run.
    """

    masks: Sequence[Tensor]
    time_first: bool = False
    told: set[tuple[int, ...]] = field(default_factory=set)

    def __post_init__(self) -> None:
        shapes = [tuple(mask.shape) for mask in self.masks]
        if len(set(shapes)) < len(shapes):
            raise ArgumentError(
                f"the batch has two masks of shape {list(shapes[0])}, one for the encoder and one for the decoder, so the shape of a layer's inputs "
                "does not show which applies; use different lengths for the two sides, or pass tokens=... to Calibration"
            )

    @property
    def any(self) -> bool:
        """Whether any position is padding."""
        return not all(bool(mask.all()) for mask in self.masks)

    def part(self, samples: slice) -> "Padding":
        """Return the padding of some samples of the batch."""
        return replace(self, masks=[mask[samples] for mask in self.masks])

    def fitting(self, shape: Sequence[int]) -> Tensor | None:
        """Return the mask that matches the leading axes of a shape, with its axes in the same order, or None.

        Raises
        ------
        ArgumentError
            If the shape does not show which axis is the batch and which is time.
        """
        shape = tuple(shape)
        for mask in self.masks:
            size = tuple(mask.shape)
            if shape[: mask.ndim] == size:
                if self.time_first and mask.ndim == 2 and size[0] == size[1] and not torch.equal(mask, mask.T):
                    raise ArgumentError(
                        f"the batch has {size[0]} sequences of {size[1]} tokens and some modules of the model put time first, so batch and time "
                        "cannot be distinguished; use another batch size"
                    )
                return mask
            if mask.ndim == 2 and shape[:2] == size[::-1]:
                return mask.T
            if mask.ndim > 1 and shape == (mask.numel(),):
                return mask.flatten()
        return None

    def rows(self, inputs: Tensor, name: str) -> Tensor:
        """Return the real positions of inputs ``[..., K]`` as rows ``[M, K]``; warn if padding cannot be identified.

        Parameters
        ----------
        inputs
            Inputs of a weight. ``[B, K]``, with one row per sample, has no padding.
        name
            Name of the weight, for the warning.
        """
        mask = self.fitting(inputs.shape[:-1]) if self.any else None
        if mask is not None:
            return inputs[mask.to(inputs.device)].reshape(-1, inputs.shape[-1])
        self.warn_unless_known(inputs.shape[:-1], f"the inputs of {name}")
        return inputs.reshape(-1, inputs.shape[-1])

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of values over the real positions; values with one entry per sample are all included."""
        mask = self.fitting(values.shape) if self.any else None
        if mask is None or mask.shape != values.shape:
            self.warn_unless_known(values.shape, "what is compared")
            return values.mean()
        weight = mask.to(values.dtype)
        return (values * weight).sum() / weight.sum().clamp(min=1)

    def warn_unless_known(self, shape: Sequence[int], what: str) -> None:
        """Warn that padding is included, if there is any and this shape matches no mask and is not one entry per sample."""
        per_sample = len(shape) < 2 and (not shape or shape[0] in {1, *(len(mask) for mask in self.masks)})
        key = tuple(shape[1:])
        if not self.any or per_sample or key in self.told:
            return
        self.told.add(key)
        masks = ", ".join(str(list(mask.shape)) for mask in self.masks)
        warnings.warn(
            f"{what}, of shape {list(shape)} without the last axis, match no mask of the batch ({masks}), so padding among them is included. "
            "Use batches without padding, or pass tokens=... to Calibration to mark the real positions",
            stacklevel=3,
        )


def masks_in(batch: Any, model: nn.Module) -> list[Tensor]:
    """Return the masks in a batch in Hugging Face's format; an empty list if it has none or is not a mapping.

    For the decoder of an encoder-decoder model this is ``decoder_attention_mask``, otherwise the positions with a label in ``labels``,
    otherwise all positions.

    Raises
    ------
    ArgumentError
        If a mask with three or more dimensions does not show which positions are padding.
    """
    if not isinstance(batch, Mapping):
        return []
    masks = [
        _plain(batch[name], name) for name in ("attention_mask", "encoder_attention_mask") if _is_mask(batch, name)
    ]
    decoder = _decoder_mask(batch, model)
    return masks if decoder is None else [*masks, decoder]


def told_apart(batch: Any, model: nn.Module) -> Any:
    """Return a batch whose encoder and decoder sides differ in length, so that the shape of a layer's inputs shows the side.

    If necessary, the decoder gets one more position. It is padding and comes last, so no other position attends to it.
    """
    if not isinstance(batch, Mapping) or not _is_mask(batch, "attention_mask"):
        return batch
    mask = _decoder_mask(batch, model)
    if mask is None or mask.shape != batch["attention_mask"].shape:
        return batch
    longer = dict(batch)
    for name, filling in (("decoder_input_ids", 0), ("decoder_inputs_embeds", 0), ("labels", _IGNORED)):
        tensor = batch.get(name)
        if isinstance(tensor, Tensor) and tensor.shape[:2] == mask.shape:
            longer[name] = torch.cat([tensor, torch.full_like(tensor[:, :1], filling)], dim=1)
    longer["decoder_attention_mask"] = torch.cat([mask, torch.zeros_like(mask[:, :1])], dim=1).long()
    return longer


class PaddingReader:
    """Reads the padding of batches for one model.

    Parameters
    ----------
    model
        Model that the batches are for.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._time_first = any(getattr(module, "batch_first", True) is False for module in model.modules())
        self._told: set[tuple[int, ...]] = set()

    def read(self, batch: Any) -> tuple[Any, Padding | None]:
        """Return the batch as the model is to be called with it, see `told_apart`, and its padding, None if it has no mask."""
        apart = told_apart(batch, self.model)
        return apart, self.of_masks(masks_in(apart, self.model))

    def of_masks(self, masks: Sequence[Tensor]) -> Padding | None:
        """Return the padding given by masks, or None if there are no masks."""
        return Padding(masks, self._time_first, self._told) if masks else None


def _is_mask(batch: Mapping[str, Any], name: str) -> bool:
    return isinstance(batch.get(name), Tensor) and batch[name].ndim > 1


def _decoder_mask(batch: Mapping[str, Any], model: nn.Module) -> Tensor | None:
    """Return the mask of the decoder side, or None if the model has no decoder side."""
    if _is_mask(batch, "decoder_attention_mask"):
        return _plain(batch["decoder_attention_mask"], "decoder_attention_mask")
    if not getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return None
    labels = batch.get("labels")
    sides = [batch.get("decoder_input_ids"), batch.get("decoder_inputs_embeds"), labels]
    inputs = next((side for side in sides if isinstance(side, Tensor)), None)
    if inputs is None or inputs.ndim < 2:
        return None
    if isinstance(labels, Tensor) and labels.shape == inputs.shape[:2]:
        return labels != _IGNORED
    return torch.ones(inputs.shape[:2], dtype=torch.bool, device=inputs.device)


def _plain(mask: Tensor, name: str) -> Tensor:
    """Return a mask as bool ``[B, T]``; if a mask has negative numbers, those mark the masked positions."""
    real = mask if mask.dtype == torch.bool else mask >= 0 if bool((mask < 0).any()) else mask != 0
    if mask.ndim == 2:
        return real
    if all(size == 1 for size in mask.shape[1:-1]):
        return real.flatten(1)
    raise ArgumentError(
        f"{name} has shape {list(mask.shape)}, which is a mask of position pairs and does not show which positions are padding; pass "
        "tokens=lambda batch: ... to Calibration, returning a bool tensor [batch, positions]"
    )
