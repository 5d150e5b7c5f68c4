"""Watching a model run: which module is active, and every operator that torch runs in it."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules import module as hooks
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from . import operators
from .layers import handler_of
from .recorder import Module, Recorder

__all__ = ["watching"]


@contextmanager
def watching(recorder: Recorder, model: nn.Module) -> Iterator[None]:
    """Record what runs inside the block."""
    names: dict[int, Module] = {}
    for name, module in model.named_modules():
        names.setdefault(id(module), Module(name, not list(module.children()), _function(module)))
    fast_path = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast_path)
        torch.backends.mha.set_fastpath_enabled(False)  # its fused operators hide the products
        stack.callback(_hooked(recorder, names))
        stack.enter_context(_Attention(recorder))
        stack.enter_context(_Steps(recorder))
        yield


class _Steps(TorchDispatchMode):  # type: ignore[no-untyped-call]  # as torch ships it
    """Passes every operator to `operators.step`."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recorder = recorder

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if self.recorder.muted or func.namespace == "prim":  # prim operators query tensors and compute nothing
            return func(*args, **options)
        with self:  # under inference_mode composite operators arrive undecomposed
            parts = func.decompose(*args, **options) if _composite(func) else NotImplemented
        if parts is not NotImplemented:
            return parts
        out = func(*args, **options)
        operators.step(self.recorder, func, args, options, out)
        return out


class _Attention(TorchFunctionMode):
    """Catches attention before torch dispatches it to one of its many implementations."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if func is not functional.scaled_dot_product_attention or self.recorder.muted:
            return func(*args, **options)
        with _muted(self.recorder):
            out = func(*args, **options)
        tensors = options | dict(zip(("query", "key", "value", "attn_mask"), args[:4], strict=False))
        query, key, value = (tensors[name] for name in ("query", "key", "value"))
        operators.attention(self.recorder, query, key, value, tensors.get("attn_mask"), out)
        return out


@contextmanager
def _muted(recorder: Recorder) -> Iterator[None]:
    recorder.muted += 1
    try:
        yield
    finally:
        recorder.muted -= 1


def _function(module: nn.Module) -> str:
    """Return the function that an activation module computes, as its class name tells; empty if unknown."""
    name = type(module).__name__.lower()
    return next((known for known in ("gelu", "silu", "swish", "mish") if known in name), "")


def _composite(func: Any) -> bool:
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"))


def _hooked(recorder: Recorder, names: Mapping[int, Module]) -> Any:
    """Follow modules as they begin and end; return a function that stops it."""

    def begins(module: nn.Module, args: tuple[Any, ...]) -> None:
        recorder.enter(names.get(id(module)) or Module(recorder.path))
        recorder.muted += handler_of(module) is not None

    def ends(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        handler = handler_of(module)
        if handler is not None:
            recorder.muted -= 1
            if not recorder.muted:
                handler(recorder, module, recorder.path, args, kwargs, out)
        recorder.leave()

    before = hooks.register_module_forward_pre_hook(begins)
    after = hooks.register_module_forward_hook(ends, with_kwargs=True)

    def stop() -> None:
        before.remove()
        after.remove()
        # torch's handle leaves this entry behind, and torch.compile would warn of hooks for the rest of the process.
        hooks._global_forward_hooks_with_kwargs.pop(after.id, None)

    return stop
