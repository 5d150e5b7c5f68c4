"""Sharded tensors: gathering them, and cutting a mask into the shards of each process."""

import torch
from torch import Tensor

__all__ = ["gathered", "is_quantized", "is_spread", "local", "own_part", "plain", "spread_like", "whole"]


def whole(tensor: Tensor) -> Tensor:
    """Return the full tensor. For a sharded tensor this is a collective: every process of its mesh must call it."""
    if is_spread(tensor):
        full: Tensor = tensor.full_tensor()  # type: ignore[attr-defined]
        return full
    return tensor


def local(tensor: Tensor) -> Tensor:
    """Return this process's shard of a tensor, or all of an ordinary tensor; shares memory."""
    if is_spread(tensor):
        with torch.no_grad():
            shard: Tensor = tensor.to_local()  # type: ignore[attr-defined]
        return shard
    return tensor.detach()


def own_part(full: Tensor, like: Tensor) -> Tensor:
    """Return the shard of a full tensor that corresponds to this process's shard of `like`, without communication."""
    return local(spread_like(full, like))


def spread_like(full: Tensor, like: Tensor) -> Tensor:
    """Return a full tensor sharded like `like`; each process cuts its shard from its own copy."""
    if is_spread(like):
        from torch.distributed.tensor import distribute_tensor

        # Without a source rank there is no communication.
        sharded: Tensor = distribute_tensor(full, like.device_mesh, like.placements, src_data_rank=None)  # type: ignore[attr-defined]
        return sharded
    return full


def gathered(part: Tensor, like: Tensor) -> Tensor:
    """Return the full tensor from shards laid out like those of `like`: the inverse of `own_part`, and a collective."""
    if is_spread(like):
        from torch.distributed.tensor import DTensor

        sharded = DTensor.from_local(
            part,
            like.device_mesh,  # type: ignore[attr-defined]
            like.placements,  # type: ignore[attr-defined]
            run_check=False,
            shape=like.shape,
            stride=like.stride(),
        )
        return whole(sharded)
    return part


def plain(tensor: Tensor) -> bool:
    """Return whether a tensor is an ordinary or a sharded one, rather than another subclass of `Tensor`."""
    return type(tensor) in (torch.nn.Parameter, Tensor) or is_spread(tensor)


def is_quantized(tensor: Tensor) -> bool:
    """Return whether a tensor is quantized: by torch, or by a library whose subclass overrides `dequantize`."""
    return tensor.is_quantized or type(tensor).dequantize is not Tensor.dequantize


def is_spread(tensor: Tensor) -> bool:
    """Return whether a tensor is sharded over processes, that is, a `DTensor`."""
    if type(tensor) in (torch.nn.Parameter, Tensor) or not torch.distributed.is_available():
        return False
    from torch.distributed.tensor import DTensor  # imported late: processes without sharded tensors do not need it

    return isinstance(tensor, DTensor)
