"""`Batches`: shuffled batches whose i-th one depends on the seed and i alone, so that a resumed run replays nothing."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import ArgumentError

__all__ = ["Batches", "Share"]

_POOL = 16
"""Batches that are sorted by length together: enough to make lengths alike, few enough to keep the order random."""


class Batches:
    """An endless, seekable sequence of batches: ``batches[i]`` is the batch of step i.

    Every pass over the items is shuffled anew. With `lengths`, items of similar length share a batch, which wastes less on
    padding; the batches themselves still come in random order. Items left over at the end of a pass are left out of it.

    Parameters
    ----------
    items
        Anything with a length and an index.
    size
        Items in a batch.
    seed
        Of the order.
    collate
        From a list of items to a batch, such as a call of a tokenizer; `torch.stack` for tensors where not given.
    lengths
        One number an item, for instance its characters or tokens.

    Raises
    ------
    ArgumentError
        If there are fewer items than one batch, or not as many lengths as items.

    Examples
    --------
    >>> batches = Batches([f"text {i}" for i in range(10)], 4, seed=0, collate=list)
    >>> batches[1000] == batches[1000], len(batches[0]), batches.per_pass
    (True, 4, 2)
    """

    def __init__(
        self,
        items: Sequence[Any],
        size: int,
        *,
        seed: int = 0,
        collate: Callable[[list[Any]], Any] | None = None,
        lengths: Sequence[float] | None = None,
    ) -> None:
        if size < 1 or len(items) < size:
            raise ArgumentError(f"a batch of {size} cannot be taken from {len(items)} items")
        if lengths is not None and len(lengths) != len(items):
            raise ArgumentError(f"there are {len(items)} items and {len(lengths)} lengths; each item needs one")
        self.items = items
        self.size = size
        self.seed = seed
        self._collate = collate or _stack
        self._lengths = None if lengths is None else np.asarray(lengths)
        self._pass: tuple[int, NDArray[np.int64]] = (-1, np.empty((0, 0), np.int64))

    @property
    def per_pass(self) -> int:
        """Batches in one pass over the items."""
        return len(self.items) // self.size

    def indices(self, step: int) -> list[int]:
        """Return which items make up the batch of a step."""
        if step < 0:
            raise ArgumentError(f"steps are counted from 0, and step {step} was asked for")
        number, place = divmod(step, self.per_pass)
        if self._pass[0] != number:
            self._pass = (number, self._order(number))
        return [int(index) for index in self._pass[1][place]]

    def __getitem__(self, step: int) -> Any:
        return self._collate([self.items[index] for index in self.indices(step)])

    def _order(self, number: int) -> NDArray[np.int64]:
        """Return the item indices of one pass, ``[per_pass, size]``."""
        generator = np.random.default_rng([self.seed, number])
        order = generator.permutation(len(self.items))[: self.per_pass * self.size]
        if self._lengths is None:
            return order.reshape(-1, self.size)
        pool = _POOL * self.size
        pools = [order[start : start + pool] for start in range(0, len(order), pool)]
        by_length = [part[np.argsort(self._lengths[part], kind="stable")] for part in pools]
        batches: NDArray[np.int64] = np.concatenate(by_length).reshape(-1, self.size)
        return batches[generator.permutation(len(batches))]


class Share:
    """One process's share of every batch, for training in several: ``share[i]`` is a piece of ``batches[i]``.

    Every tensor in a batch is cut along its first dimension into as many pieces of one size as there are processes. The mean of the
    processes' losses is then that of the whole batch, and checkpoints know the run by its whole batches, so that another
    number of processes may go on.

    Parameters
    ----------
    batches
        ``batches[i]`` is the i-th batch, the same in every process.
    rank, size
        This process and their number; those of `torch.distributed` where not given.

    Raises
    ------
    ArgumentError
        If there is no such process. When a batch is asked for, if it cannot be cut into equal pieces.

    Examples
    --------
    >>> Share([torch.arange(6)], rank=1, size=2)[0]
    tensor([3, 4, 5])
    """

    def __init__(self, batches: Any, *, rank: int | None = None, size: int | None = None) -> None:
        spread = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.whole = batches
        self.rank = rank if rank is not None else torch.distributed.get_rank() if spread else 0
        self.size = size if size is not None else torch.distributed.get_world_size() if spread else 1
        if not 0 <= self.rank < self.size:
            raise ArgumentError(f"there are {self.size} processes, counted from 0, and {self.rank} is none of them")

    def __getitem__(self, step: int) -> Any:
        return self._cut(self.whole[step])

    def _cut(self, value: Any) -> Any:
        match value:
            case torch.Tensor():
                if value.ndim == 0 or value.shape[0] % self.size:
                    raise ArgumentError(
                        f"a tensor of shape {list(value.shape)} cannot be cut into {self.size} equal pieces along its first "
                        "dimension; take a batch size that the number of processes divides"
                    )
                return value.chunk(self.size)[self.rank]
            case Mapping():
                return {key: self._cut(item) for key, item in value.items()}
            case list() | tuple():
                return [self._cut(item) for item in value]
            case _:
                return value


def _stack(items: list[Any]) -> Any:
    return torch.stack(items)
