"""Which positions of a batch are real and which are padding, and how to find them again in a layer's inputs.

A mask is ``[B, T]``. Layers see the same positions as ``[B, T, K]``, time first as ``[T, B, K]``, or in one row after another as
``[B * T, K]``; encoder-decoders have two masks. Where the shape of the inputs does not say which of these it is, nothing is guessed:
the caller is told.
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
"""Label of a position without one, in torch and in transformers."""


@dataclass(frozen=True, eq=False)
class Padding:
    """The masks of one batch.

    Parameters
    ----------
    masks
        Bool tensors, True where a position is real; their shapes differ.
    time_first
        True if the model has modules that put time before the batch.
    told
        Shapes that a warning was given for; shared by the batches of a run.
    """

    masks: Sequence[Tensor]
    time_first: bool = False
    told: set[tuple[int, ...]] = field(default_factory=set)

    def __post_init__(self) -> None:
        shapes = [tuple(mask.shape) for mask in self.masks]
        if len(set(shapes)) < len(shapes):
            raise ArgumentError(
                f"the batch has two masks of shape {list(shapes[0])}, one for the encoder and one for the decoder, and layers cannot be told "
                "apart by the shape of their inputs; give the two sides different lengths, or pass tokens=... in the Calibration"
            )

    @property
    def any(self) -> bool:
        """True if any position is padding."""
        return not all(bool(mask.all()) for mask in self.masks)

    def part(self, samples: slice) -> "Padding":
        """Return the masks of some samples."""
        return replace(self, masks=[mask[samples] for mask in self.masks])

    def fitting(self, shape: Sequence[int]) -> Tensor | None:
        """Return the mask whose positions are the first axes of a shape, in its order of axes; None if none is.

        Raises
        ------
        ArgumentError
            If batch and time cannot be told apart.
        """
        shape = tuple(shape)
        for mask in self.masks:
            size = tuple(mask.shape)
            if shape[: mask.ndim] == size:
                if self.time_first and mask.ndim == 2 and size[0] == size[1] and not torch.equal(mask, mask.T):
                    raise ArgumentError(
                        f"{size[0]} sequences of {size[1]} tokens, in a model in which some modules put time first: which axis is which cannot "
                        "be told; use batches of another size"
                    )
                return mask
            if mask.ndim == 2 and shape[:2] == size[::-1]:
                return mask.T
            if mask.ndim > 1 and shape == (mask.numel(),):
                return mask.flatten()
        return None

    def rows(self, inputs: Tensor, name: str) -> Tensor:
        """Return the real positions of ``[..., K]`` as rows ``[M, K]``; warn where they cannot be told from padding.

        `name` is the weight that multiplies them. A row a sample, ``[B, K]``, has no padding.
        """
        mask = self.fitting(inputs.shape[:-1]) if self.any else None
        if mask is not None:
            return inputs[mask.to(inputs.device)].reshape(-1, inputs.shape[-1])
        self.warn_unless_known(inputs.shape[:-1], f"the inputs of {name}")
        return inputs.reshape(-1, inputs.shape[-1])

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of values, one a position, over the real ones; over all of them if they are one a sample."""
        mask = self.fitting(values.shape) if self.any else None
        if mask is None or mask.shape != values.shape:
            self.warn_unless_known(values.shape, "what is compared")
            return values.mean()
        weight = mask.to(values.dtype)
        return (values * weight).sum() / weight.sum().clamp(min=1)

    def warn_unless_known(self, shape: Sequence[int], what: str) -> None:
        """Warn that padding counts if there is some, and positions of this shape fit no mask and are not one a sample."""
        a_sample = len(shape) < 2 and (not shape or shape[0] in {1, *(len(mask) for mask in self.masks)})
        key = tuple(shape[1:])
        if not self.any or a_sample or key in self.told:
            return
        self.told.add(key)
        masks = ", ".join(str(list(mask.shape)) for mask in self.masks)
        warnings.warn(
            f"{what}, of shape {list(shape)} apart from the last axis, fit no mask of the batch ({masks}): padding among them cannot be told "
            "and counts. Give batches without padding, or, in a Calibration, say with tokens=... which positions count",
            stacklevel=3,
        )


def masks_in(batch: Any, model: nn.Module) -> list[Tensor]:
    """Return the masks that a batch in the manner of Hugging Face holds; none if it holds none, or is no mapping.

    The decoder's side of an encoder-decoder: ``decoder_attention_mask``, or else where ``labels`` has labels, or else every position.

    Raises
    ------
    ArgumentError
        If a mask of three axes or more does not say which positions are padding.
    """
    if not isinstance(batch, Mapping):
        return []
    masks = [
        _plain(batch[name], name) for name in ("attention_mask", "encoder_attention_mask") if _is_mask(batch, name)
    ]
    decoder = _decoder_mask(batch, model)
    return masks if decoder is None else [*masks, decoder]


def told_apart(batch: Any, model: nn.Module) -> Any:
    """Return a batch whose encoder and decoder sides differ in length, so that the shape of a layer's inputs says whose they are.

    The decoder gets one position more, which is padding; it is the last, so no other position sees it.
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
    """Reads the padding of one batch after another, for one model."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._time_first = any(getattr(module, "batch_first", True) is False for module in model.modules())
        self._told: set[tuple[int, ...]] = set()

    def read(self, batch: Any) -> tuple[Any, Padding | None]:
        """Return the batch with its two sides told apart, as the model is to be called, and its padding; None if it has no mask."""
        apart = told_apart(batch, self.model)
        return apart, self.of_masks(masks_in(apart, self.model))

    def of_masks(self, masks: Sequence[Tensor]) -> Padding | None:
        """Return the padding that masks say; None without any."""
        return Padding(masks, self._time_first, self._told) if masks else None


def _is_mask(batch: Mapping[str, Any], name: str) -> bool:
    return isinstance(batch.get(name), Tensor) and batch[name].ndim > 1


def _decoder_mask(batch: Mapping[str, Any], model: nn.Module) -> Tensor | None:
    """Return the mask of the decoder's side; None if the model has no such side."""
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
    """Return a mask as bool ``[B, T]``; numbers below zero are what is added to scores where nothing may look."""
    real = mask if mask.dtype == torch.bool else mask >= 0 if bool((mask < 0).any()) else mask != 0
    if mask.ndim == 2:
        return real
    if all(size == 1 for size in mask.shape[1:-1]):
        return real.flatten(1)
    raise ArgumentError(
        f"{name} has shape {list(mask.shape)}, which says who looks where and not which positions are padding; pass "
        "tokens=lambda batch: ... in the Calibration, a bool tensor [batch, positions]"
    )
