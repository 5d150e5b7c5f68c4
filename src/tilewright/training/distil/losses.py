"""Losses of a student against its teacher: on hidden states and on the final output."""

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ArgumentError, TargetError
from ...graph import call
from ...pruning import Padding
from ..distributed import bare

__all__ = ["Output", "Probe", "hidden_loss", "mean_pooled", "named_modules", "output_loss"]

Output = Callable[[Any, Any], Tensor]
"""``output(result, batch)`` returns the tensor to compare, given what a model returned for a batch."""


class Probe:
    """Call a model and return its output together with its hidden states.

    Parameters
    ----------
    model
        The model. A mapping is passed as keyword arguments, a tuple or list as positional arguments, anything else as one argument.
    layers
        Names or globs of the modules whose outputs are the hidden states, in the order of `named_modules`. If empty, the model is
        called with ``output_hidden_states=True``, as Hugging Face models support.
    wanted
        Whether hidden states are needed at all.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str], wanted: bool) -> None:
        self.model = model
        self._hidden: dict[str, Tensor] = {}
        self._handles: list[Any] = []
        self._extra: dict[str, Any] = {}
        inner = bare(model)
        if wanted and layers:
            self.names = named_modules(inner, layers)
            modules = dict(inner.named_modules())
            self._handles = [modules[name].register_forward_hook(self._keeper(name)) for name in self.names]
        elif wanted:
            if not hasattr(getattr(inner, "config", None), "output_hidden_states"):
                raise ArgumentError(
                    f"{type(inner).__name__} cannot return hidden states; name the modules to compare, such as "
                    "layers=('blocks.*',), or set hidden=0"
                )
            self._extra = {"output_hidden_states": True}

    def __call__(self, batch: Any) -> tuple[Any, list[Tensor]]:
        """Return the model's output and its hidden states, from the first layer to the last."""
        self._hidden.clear()
        result = call(self.model, batch, **self._extra)
        if self._extra:
            return result, _reported(result, self.model)
        silent = [name for name in getattr(self, "names", ()) if name not in self._hidden]
        if silent:
            raise ArgumentError(f"layer {silent[0]!r} was not called, so it has no hidden state to compare")
        hidden = [self._hidden[name] for name in getattr(self, "names", ())]
        self._hidden.clear()
        return result, hidden

    def close(self) -> None:
        """Remove the hooks from the model."""
        for handle in self._handles:
            handle.remove()

    def _keeper(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(module: nn.Module, args: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple | list) else output
            if not isinstance(tensor, Tensor):
                raise ArgumentError(
                    f"layer {name!r} must return a tensor, but it returns a {type(tensor).__name__}; name another module"
                )
            self._hidden[name] = tensor

        return keep


def _reported(result: Any, model: nn.Module) -> list[Tensor]:
    """Return the hidden states in a model's result, encoder before decoder, without embeddings."""
    names = ("hidden_states", "encoder_hidden_states", "decoder_hidden_states")
    states = [state for name in names for state in (getattr(result, name, None) or ())[1:]]
    if not states:
        raise ArgumentError(
            f"{type(bare(model)).__name__} returned no hidden states although they were requested; name the modules to compare, "
            "such as layers=('blocks.*',), or set hidden=0"
        )
    return states


def named_modules(model: nn.Module, layers: Sequence[str], role: str = "layers") -> list[str]:
    """Return the names of the modules that match names or globs, in model order.

    Raises
    ------
    TargetError
        If an expression matches no module.
    """
    names = [name for name, _ in model.named_modules() if name]
    for layer in layers:
        if not any(fnmatchcase(name, layer) for name in names):
            raise TargetError(
                f"{role}={layer!r} matches no module of {type(model).__name__}; its first modules are {', '.join(names[:4])}"
            )
    return [name for name in names if any(fnmatchcase(name, layer) for layer in layers)]


def hidden_loss(student: Sequence[Tensor], teacher: Sequence[Tensor], padding: Padding | None) -> Tensor:
    """Return the mean over layers of the mean squared error divided by the teacher's mean square, a scalar."""
    if len(student) != len(teacher) or not student:
        raise ArgumentError(
            f"student and teacher must have the same number of hidden states; got {len(student)} and {len(teacher)}"
        )
    return torch.stack([_relative(s, t, padding) for s, t in zip(student, teacher, strict=True)]).mean()


def output_loss(kind: str, student: Tensor, teacher: Tensor, padding: Padding | None) -> Tensor:
    """Return a scalar: one minus the cosine (``"cosine"``), relative squared error (``"mse"``), or ``"cross-entropy"`` of logits."""
    if kind == "mse":
        return _relative(student, teacher, padding)
    _same_shape(student, teacher)
    if kind == "cross-entropy":
        guess, goal = (torch.nn.functional.log_softmax(logits.float(), dim=-1) for logits in (student, teacher))
        return _mean((goal.exp() * (goal - guess)).sum(-1), padding)
    cosine = torch.nn.functional.cosine_similarity(student.float(), teacher.float(), dim=-1)
    return 1 - _mean(cosine, padding)


def mean_pooled(output: Any, batch: Any) -> Tensor:
    """Return the mean of the last hidden state ``[B, T, H]`` over tokens that are not padding, ``[B, H]``: a sentence embedding."""
    last: Tensor = output.last_hidden_state
    masks = (
        [batch.get(name) for name in ("decoder_attention_mask", "attention_mask")] if isinstance(batch, Mapping) else []
    )
    mask = next((mask for mask in masks if isinstance(mask, Tensor) and mask.shape == last.shape[:2]), None)
    if mask is None:
        return last.mean(dim=1)
    weight = mask.unsqueeze(-1).to(last.dtype)
    return (last * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


def final_output(output: Any, batch: Any) -> Tensor:
    """Return the tensor compared by default: logits, the mean-pooled last hidden state, or the output itself."""
    if isinstance(output, tuple | list) and output:
        output = output[0]
    if isinstance(output, Tensor):
        return output
    if isinstance(getattr(output, "logits", None), Tensor):
        logits: Tensor = output.logits
        return logits
    if isinstance(getattr(output, "last_hidden_state", None), Tensor):
        return mean_pooled(output, batch)
    raise ArgumentError(
        f"the model returns a {type(output).__name__} without logits or last_hidden_state; pass output=function(result, batch), "
        "a function that returns the tensor to compare"
    )


def _relative(student: Tensor, teacher: Tensor, padding: Padding | None) -> Tensor:
    _same_shape(student, teacher)
    goal = teacher.float()
    error = student.float() - goal
    # Norms instead of square(): they avoid the temporaries of torch's power kernel, which cost a tenth of the whole step.
    squares, power = (torch.linalg.vector_norm(x, dim=-1).square() for x in (error, goal))
    return _mean(squares, padding) / _mean(power, padding).clamp(min=1e-12)


def _mean(values: Tensor, padding: Padding | None) -> Tensor:
    return values.mean() if padding is None else padding.mean(values)


def _same_shape(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ArgumentError(
            f"student and teacher outputs must have the same shape; got {list(student.shape)} and {list(teacher.shape)}"
        )
