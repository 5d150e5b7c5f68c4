"""`StandIn`: the ``weight`` of a packed layer, a tensor that has a type, shape and device and rejects everything else.

Models read ``layer.weight`` for two reasons. Asking for its type or shape is harmless and common (T5 does it in every block).
Computing with it bypasses the layer, which a packed layer cannot support. Torch's own tensors without values would let the
computation go ahead; this one raises before anything reads memory.
"""

from collections.abc import Callable
from typing import Any

import torch

from ..errors import NotSupportedError

__all__ = ["StandIn"]

_ATTRIBUTES = [
    "dtype",
    "device",
    "layout",
    "ndim",
    "requires_grad",
    "grad",
    "is_leaf",
    "itemsize",
    "nbytes",
    "is_cpu",
    "is_cuda",
    "is_meta",
    "is_mps",
    "is_xpu",
    "is_sparse",
    "is_quantized",
    "is_nested",
]
_METHODS = [
    "dim",
    "ndimension",
    "numel",
    "nelement",
    "element_size",
    "stride",
    "is_floating_point",
    "is_complex",
    "is_contiguous",
    "is_inference",
    "get_device",
]
_QUESTIONS = frozenset(
    {
        *(getattr(torch.Tensor, name).__get__ for name in _ATTRIBUTES),
        *(getattr(torch.Tensor, name) for name in _METHODS),
        *(torch.is_floating_point, torch.is_complex, torch.numel),
    }
)
_BORROWERS = frozenset({torch.Tensor.to, torch.Tensor.type_as})
"""Methods that copy the type and device of another tensor, which is harmless if the stand-in is the other tensor."""


class StandIn(torch.Tensor):
    """A tensor without values in place of a packed weight.

    Parameters
    ----------
    shape
        ``(N, K)``.
    dtype, device
        Type and device it reports.
    owner
        Description of the layer for error messages.
    """

    _shape: torch.Size
    _owner: str

    @staticmethod
    def __new__(cls, shape: tuple[int, int], dtype: torch.dtype, device: torch.device, owner: str) -> "StandIn":  # noqa: D102 (documented in the class)
        tensor: StandIn = torch.Tensor._make_wrapper_subclass(cls, shape, dtype=dtype, device=device)
        tensor._shape, tensor._owner = torch.Size(shape), owner
        return tensor

    def __repr__(self, **_: object) -> str:  # type: ignore[override]  # torch's own does not declare its option
        return f"StandIn(shape={list(self._shape)}, dtype={self.dtype}, of {self._owner})"

    __str__ = __repr__

    def __len__(self) -> int:
        return self._shape[0]

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if args and isinstance(args[0], StandIn):
            # Sizes are answered here, because tracers would record torch's answer as an operation on a constant.
            if func == torch.Tensor.shape.__get__:  # type: ignore[attr-defined]
                return args[0]._shape
            if func == torch.Tensor.size:
                return args[0]._shape[args[1]] if len(args) > 1 else args[0]._shape
        allowed = func in _QUESTIONS or (func in _BORROWERS and not isinstance(args[0], StandIn))
        if not allowed:
            raise _refusal(args, kwargs, getattr(func, "__name__", str(func)))
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # declared an instance method there
        cls, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        raise _refusal(args, kwargs, str(func))

    def __deepcopy__(self, memo: object) -> "StandIn":
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise _refusal((self,), None, "pickling")


def _refusal(args: object, kwargs: object, operation: str) -> NotSupportedError:
    owner = next((tensor._owner for tensor in _tensors((args, kwargs))), "a packed layer")
    return NotSupportedError(
        f"{operation} was called on the weight of {owner}, which is packed: its type, shape and device are available, but its values "
        "cannot be read or written. Call the layer instead, or use layer.dense().weight; if the model's own code computes with the weight, "
        "load the layer dense: tilewright.load(path, dense=[...]) with the layer's name"
    )


def _tensors(tree: object) -> "list[StandIn]":
    if isinstance(tree, StandIn):
        return [tree]
    if isinstance(tree, dict):
        tree = list(tree.values())
    return [tensor for item in tree for tensor in _tensors(item)] if isinstance(tree, list | tuple) else []
