"""The weights as timing sees them: a model's masks, packed layers or stored weights as `WeightView`, by parameter name."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ...errors import PatternError
from ...formats import Packed, StoredWeight, pack
from ...patterns import Pattern, as_matrix, parse
from ...pruning import masks_of, patterns_of, prunable
from ...runtime import sparse_layers
from ..workload import WeightView

__all__ = ["Views", "first_row"]


class Views:
    """Views of weights by parameter name; parameters that are not pruned are dense.

    Parameters
    ----------
    packed
        Functions that return the packed weight of each pruned parameter, by name; each is called on first use.
    """

    def __init__(self, packed: Mapping[str, Callable[[], Packed]]) -> None:
        self._makers = packed
        self._packed: dict[str, Packed] = {}
        self._views: dict[tuple[object, ...], WeightView] = {}

    @classmethod
    def of_model(cls, model: nn.Module) -> "Views":
        """Return the views of the masked weights and the packed layers of a model."""
        layouts = {weight.name: weight.layout for weight in prunable(model)}
        patterns = patterns_of(model)
        makers: dict[str, Callable[[], Packed]] = {}
        for name, mask in masks_of(model).items():
            if name in layouts:
                # Take the array now: while the model runs, its tensors are replaced by others.
                makers[name] = partial(_pack, as_matrix(mask.cpu().numpy(), layouts[name]), patterns[name])
        for name, layer in sparse_layers(model).items():
            makers[f"{name}.weight" if name else "weight"] = partial(_itself, layer.packed())
        return cls(makers)

    @classmethod
    def of_stored(cls, weights: Mapping[str, StoredWeight]) -> "Views":
        """Return the views of the packed weights of a checkpoint; none is unpacked."""
        return cls({name: partial(_itself, weight.packed) for name, weight in weights.items()})

    def get(self, name: str, outputs: int, inputs: int, first: int = 0) -> WeightView:
        """Return the view of a parameter, or of `outputs` of its rows from `first` on; dense if it is not pruned."""
        key = (name if name in self._makers else "", outputs, inputs, first)
        if key not in self._views:
            self._views[key] = self._made(name, outputs, inputs, first)
        return self._views[key]

    def pruned(self, name: str) -> bool:
        """Return True if the parameter has a mask or is packed."""
        return name in self._makers

    def _made(self, name: str, outputs: int, inputs: int, first: int) -> WeightView:
        if name not in self._makers:
            return WeightView.dense(outputs, inputs)
        if name not in self._packed:
            self._packed[name] = self._makers[name]()
        packed = self._packed[name]
        if packed.shape == (outputs, inputs):
            return WeightView.of(packed)
        return WeightView.of(_pack(packed.mask()[first : first + outputs].reshape(outputs, inputs), packed.pattern))


def first_row(tensor: Tensor) -> int:
    """Return the index of the row of a parameter that a view of its rows begins with."""
    return int(tensor.storage_offset()) // max(1, max(tensor.stride(), default=1))


def _itself(packed: Packed) -> Packed:
    return packed


def _pack(kept: NDArray[np.bool_], pattern: Pattern) -> Packed:
    """Return a packed mask; a part of a weight that no longer obeys the pattern is packed element by element."""
    ones = np.where(kept, np.float16(1), np.float16(0))
    try:
        return pack(ones, pattern, kept)
    except PatternError:
        share = 1 - float(np.count_nonzero(kept)) / kept.size
        return pack(ones, parse(f"any@{100 * share:.6f}%"), kept)
