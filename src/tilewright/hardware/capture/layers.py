"""Layers that an accelerator sees as a whole, whatever torch runs inside: recurrent layers, packed layers, custom norms."""

import re
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ...runtime import SparseLinear
from ..workload import WeightView
from .recorder import Recorder, Source, tensors_in

__all__ = ["handler_of"]

_GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}
_NORM = re.compile(r"(RMS|Layer)Norm\w*$")

Handler = Callable[[Recorder, Any, str, tuple[Any, ...], dict[str, Any], object], None]
"""``handler(recorder, module, path, args, kwargs, out)``."""


def handler_of(module: nn.Module) -> Handler | None:
    """Return the function that records a module as a whole; None if its steps are recorded as they run."""
    if isinstance(module, nn.RNNBase):
        return _recurrent
    if isinstance(module, SparseLinear):
        return _sparse
    custom = not type(module).__module__.startswith("torch.") or isinstance(module, nn.RMSNorm)
    if custom and _NORM.search(type(module).__name__) and not list(module.children()):
        return _norm
    return None


def _sparse(
    recorder: Recorder, layer: SparseLinear, path: str, args: tuple[Any, ...], kwargs: dict[str, Any], out: object
) -> None:
    (x,) = tensors_in((args, kwargs))[:1]
    N, K = layer.shape
    view = recorder.views.get(f"{path}.weight".lstrip("."), N, K)
    recorder.emit("linear", "linear", [x], out, name=path or "linear", M=x.numel() // K, N=N, K=K, weight=view)
    if layer.activation != "none":
        recorder.elementwise(layer.activation, tensors_in(out), out)


def _norm(
    recorder: Recorder, module: nn.Module, path: str, args: tuple[Any, ...], kwargs: dict[str, Any], out: object
) -> None:
    function = "rms_norm" if "RMS" in type(module).__name__ or "T5" in type(module).__name__ else "layer_norm"
    x = tensors_in((args, kwargs))[:1]
    recorder.emit("norm", function, x, out, name=path or function, function=function, row=x[0].shape[-1])


def _recurrent(
    recorder: Recorder, module: nn.RNNBase, path: str, args: tuple[Any, ...], kwargs: dict[str, Any], out: object
) -> None:
    """Record each layer and direction: one product with all inputs, then the steps that wait for each other."""
    x = args[0] if args else kwargs["input"]
    tokens, batch, steps = _lengths(module, x)
    prefix = f"{path}." if path else ""
    gates, hidden = _GATES[module.mode], module.hidden_size
    width = module.proj_size or hidden
    before = recorder.known(tensors_in(x)[0]).producers
    for layer in range(module.num_layers):
        ends = []
        for direction in ("", "_reverse") if module.bidirectional else ("",):
            suffix = f"l{layer}{direction}"
            inputs = module.input_size if layer == 0 else width * (2 if module.bidirectional else 1)

            def weight(part: str, N: int, K: int, suffix: str = suffix) -> WeightView:
                return recorder.views.get(f"{prefix}weight_{part}_{suffix}", N, K)

            fields: dict[str, Any] = {"M": tokens, "N": gates * hidden, "K": inputs}
            first = recorder.emit(
                "linear", "", [], None, name=f"{prefix}input_{suffix}", after=before, weight=weight("ih", gates * hidden, inputs),
                reads=tokens * inputs, writes=tokens * gates * hidden, **fields,
            )  # fmt: skip
            fields = {"M": batch, "N": gates * hidden, "K": width, "steps": steps}
            last = recorder.emit(
                "recurrent", "", [], None, name=f"{prefix}hidden_{suffix}", after=[first], weight=weight("hh", gates * hidden, width),
                reads=tokens * width, writes=tokens * gates * hidden, **fields,
            )  # fmt: skip
            last = recorder.emit(
                "elementwise", "", [], None, name=f"{prefix}gates_{suffix}", after=[first, last], function=module.mode.lower(),
                reads=2 * tokens * gates * hidden, writes=tokens * hidden,
            )  # fmt: skip
            if module.proj_size:
                last = recorder.emit(
                    "recurrent", "", [], None, name=f"{prefix}projection_{suffix}", after=[last], weight=weight("hr", width, hidden),
                    M=batch, N=width, K=hidden, steps=steps, reads=tokens * hidden, writes=tokens * width,
                )  # fmt: skip
            ends.append(last)
        before = tuple(ends)
    recorder.label(out, Source(before))


def _lengths(module: nn.RNNBase, x: Tensor | PackedSequence) -> tuple[int, int, int]:
    """Return the tokens of all sequences together, the number of sequences, and the steps of the longest."""
    if isinstance(x, PackedSequence):
        return x.data.shape[0], int(x.batch_sizes[0]), len(x.batch_sizes)
    if x.ndim == 2:
        return x.shape[0], 1, x.shape[0]
    batch, steps = x.shape[:2] if module.batch_first else (x.shape[1], x.shape[0])
    return batch * steps, batch, steps
