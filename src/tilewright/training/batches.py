"""`Batches`: shuffled batches, where batch i depends only on the seed and i, so that a resumed run need not replay earlier ones."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import ArgumentError

__all__ = ["Batches", "Share"]

_POOL = 16
"""Batches sorted by length together: enough for similar lengths in a batch, few enough to keep the order random."""


class Batches:
    """An endless, seekable sequence of batches: ``batches[i]`` is the i-th batch.

    Each pass over the items is shuffled differently. With `lengths`, items of similar length share a batch, which reduces padding;
    the batches themselves still come in random order. Each pass drops its last, incomplete batch.

    Parameters
    ----------
    items
        A sequence of items, with ``len`` and indexing.
    size
        Number of items in a batch.
    seed
        Seed of the shuffling. Default: 0.
    collate
        A function from a list of items to a batch, such as a tokenizer call. Default: `torch.stack`.
    lengths
        Length of each item, for instance in characters or tokens. Default: items are not grouped by length.

    Raises
    ------
    ArgumentError
        If there are fewer items than `size`, or the number of lengths differs from the number of items.

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
            raise ArgumentError(f"size must be from 1 to the number of items, {len(items)}; got {size}")
        if lengths is not None and len(lengths) != len(items):
            raise ArgumentError(f"lengths must have one entry per item; got {len(lengths)} for {len(items)} items")
        self.items = items
        self.size = size
        self.seed = seed
        self._collate = collate or _stack
        self._lengths = None if lengths is None else np.asarray(lengths)
        self._pass: tuple[int, NDArray[np.int64]] = (-1, np.empty((0, 0), np.int64))

    @property
    def per_pass(self) -> int:
        """Number of batches in one pass over the items."""
        return len(self.items) // self.size

    def indices(self, step: int) -> list[int]:
        """Return the indices of the items in the batch of a step."""
        if step < 0:
            raise ArgumentError(f"step must be 0 or more; got {step}")
        number, position = divmod(step, self.per_pass)
        if self._pass[0] != number:
            self._pass = (number, self._order(number))
        return [int(index) for index in self._pass[1][position]]

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
    """This process's part of every batch, for distributed training: ``share[i]`` is a slice of ``batches[i]``.

    Every tensor in a batch is split along its first dimension into equal parts, one per process. The mean of the processes' losses
    is then the loss of the whole batch. Checkpoints identify the run by its whole batches, so a different number of processes can
    resume it.

    Parameters
    ----------
    batches
        A sequence whose ``batches[i]`` is the i-th batch, the same in every process.
    rank, size
        Rank of this process and number of processes. Default: those of `torch.distributed`, or 0 and 1 if it is not initialized.

    Raises
    ------
    ArgumentError
        If `rank` is not in ``range(size)``; on indexing, if a batch cannot be split into equal parts.

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
            raise ArgumentError(f"rank must be from 0 to {self.size - 1}; got {self.rank}")

    def __getitem__(self, step: int) -> Any:
        return self._cut(self.whole[step])

    def _cut(self, value: Any) -> Any:
        match value:
            case torch.Tensor():
                if value.ndim == 0 or value.shape[0] % self.size:
                    raise ArgumentError(
                        f"a tensor of shape {list(value.shape)} cannot be split into {self.size} equal parts along its first "
                        "dimension; use a batch size divisible by the number of processes"
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
