"""Tensors that are spread over processes: the whole of one, and the part of a mask that belongs to this process."""

import torch
from torch import Tensor

__all__ = ["gathered", "is_quantized", "is_spread", "local", "own_part", "plain", "spread_like", "whole"]


def whole(tensor: Tensor) -> Tensor:
    """Return the full tensor. For a sharded one every process of its mesh must call, and all get the same."""
    if is_spread(tensor):
        full: Tensor = tensor.full_tensor()  # type: ignore[attr-defined]
        return full
    return tensor


def local(tensor: Tensor) -> Tensor:
    """Return what this process holds of a tensor, sharing its memory: all of an ordinary one."""
    if is_spread(tensor):
        with torch.no_grad():
            part: Tensor = tensor.to_local()  # type: ignore[attr-defined]
        return part
    return tensor.detach()


def own_part(full: Tensor, like: Tensor) -> Tensor:
    """Return the part of a full tensor that lies where `like` holds its own, without talking to other processes."""
    return local(spread_like(full, like))


def spread_like(full: Tensor, like: Tensor) -> Tensor:
    """Return a full tensor sharded as `like` is, each process cutting its part out of its own copy."""
    if is_spread(like):
        from torch.distributed.tensor import distribute_tensor

        # Without a source rank nothing is sent.
        spread: Tensor = distribute_tensor(full, like.device_mesh, like.placements, src_data_rank=None)  # type: ignore[attr-defined]
        return spread
    return full


def gathered(part: Tensor, like: Tensor) -> Tensor:
    """Return the full tensor whose parts lie in the processes as those of `like` do; the inverse of `own_part`."""
    if is_spread(like):
        from torch.distributed.tensor import DTensor

        spread = DTensor.from_local(
            part,
            like.device_mesh,  # type: ignore[attr-defined]
            like.placements,  # type: ignore[attr-defined]
            run_check=False,
            shape=like.shape,
            stride=like.stride(),
        )
        return whole(spread)
    return part


def plain(tensor: Tensor) -> bool:
    """Say whether the tensor is an ordinary or a sharded parameter, and not of some other subclass."""
    return type(tensor) in (torch.nn.Parameter, Tensor) or is_spread(tensor)


def is_quantized(tensor: Tensor) -> bool:
    """Say whether a tensor is of a quantizing library: it knows how to become floats, which a plain one need not."""
    return tensor.is_quantized or type(tensor).dequantize is not Tensor.dequantize


def is_spread(tensor: Tensor) -> bool:
    """Say whether a tensor is spread over processes."""
    if type(tensor) in (torch.nn.Parameter, Tensor) or not torch.distributed.is_available():
        return False
    from torch.distributed.tensor import DTensor  # a process without sharded tensors never pays for this import

    return isinstance(tensor, DTensor)
