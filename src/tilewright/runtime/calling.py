"""How a call of a sparse layer reaches the kernels: directly, through the dispatcher, or, for converters, as a dense product.

A direct call skips everything else that torch's dispatcher does, such as differentiation, batching, tracing and modes. It
is therefore used only when none of these is active.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

import torch
from torch.autograd import forward_ad
from torch.nn import functional

from ..errors import NotSupportedError

__all__ = ["activated", "check_transforms", "has_tangent", "is_plain", "parts_of", "traced_by_converter", "untraced"]

_set_tracing_state: Callable[[object], None] = getattr(torch._C, "_set_tracing_state")  # noqa: B009 (missing from torch's stubs)

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda x: x,
    "relu": functional.relu,
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "silu": functional.silu,
    "tanh": torch.tanh,
}


def activated(x: torch.Tensor, activation: str) -> torch.Tensor:
    """Apply one of the kernels' activations with torch's own function."""
    return _ACTIVATIONS[activation](x)


def is_plain(x: torch.Tensor) -> bool:
    """Return True if a call on x needs nothing but its result, so that the dispatcher can be skipped."""
    return not (
        torch.compiler.is_compiling()
        or type(x) is not torch.Tensor
        or (x.requires_grad and torch.is_grad_enabled())
        or torch._C._get_tracing_state() is not None
        or torch._C._functorch.maybe_current_level() is not None
        or torch._C._len_torch_dispatch_stack()
        or _dual_level() >= 0
    )


def check_transforms() -> None:
    """Reject `torch.func.grad` and similar transforms, which need a derivative of the operator; `torch.vmap` is allowed."""
    stack = torch._C._functorch.get_interpreter_stack() or ()
    kind = torch._C._functorch.TransformType
    if any(interpreter.key() in (kind.Grad, kind.Jvp) for interpreter in stack):
        raise NotSupportedError(
            "a packed layer is for inference and has no gradient under torch.func; differentiate the masked dense model or, if you "
            "only need tangents, use torch.autograd.forward_ad"
        )


def has_tangent(x: torch.Tensor) -> bool:
    """Return True if x carries a tangent of forward-mode differentiation."""
    return _dual_level() >= 0 and parts_of(x)[1] is not None


def parts_of(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the value and the tangent of x."""
    value, tangent = forward_ad.unpack_dual(x)  # type: ignore[no-untyped-call]  # as torch ships it
    return value, tangent


def _dual_level() -> int:
    return forward_ad._current_level


def traced_by_converter() -> bool:
    """Return True while ONNX's or OpenVINO's exporter is tracing, whose programs run where the operator is unknown.

    Under `torch.jit.trace` alone the operator is kept, since its programs run in torch.

    Raises
    ------
    NotSupportedError
        If ONNX's exporter uses `torch.export`, where tensors have no values that could be unpacked.
    """
    if torch.compiler.is_compiling():
        if torch.onnx.is_in_onnx_export():
            raise NotSupportedError(
                "a packed model cannot be exported to ONNX; export its dense form: "
                "torch.onnx.export(tilewright.runtime.densified(model), ...)"
            )
        return False
    if torch._C._get_tracing_state() is None:
        return False
    return bool(torch.onnx.is_in_onnx_export()) or _called_from("openvino.frontend.pytorch")


@contextmanager
def untraced() -> Iterator[None]:
    """Suspend tracing for the block, to compute a constant of the traced program."""
    state = torch._C._get_tracing_state()
    _set_tracing_state(None)
    try:
        yield
    finally:
        _set_tracing_state(state)


def _called_from(package: str) -> bool:
    """Return True if code of a package is among the callers; OpenVINO gives no other sign that it is tracing."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith(package):
            return True
        frame = frame.f_back
    return False
