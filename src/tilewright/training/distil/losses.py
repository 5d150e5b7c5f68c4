"""What the student is compared on: hidden states and the final output, both against the teacher's."""

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
"""From what a model returned, and its batch, to the tensor that is compared."""


class Probe:
    """Calls a model and gives its output together with its hidden states.

    Parameters
    ----------
    model
        Called with keywords for a mapping, positions for a tuple or list, one argument otherwise.
    layers
        Names or globs of the modules whose outputs are taken, in the order of `named_modules`. Empty: ask the model for
        ``output_hidden_states`` as Hugging Face models understand it.
    wanted
        False if hidden states are not needed at all.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str], wanted: bool) -> None:
        self.model = model
        self._found: dict[str, Tensor] = {}
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
                    f"{type(inner).__name__} does not report hidden states of its own; name the modules to compare with "
                    "layers=('blocks.*',), or set hidden=0"
                )
            self._extra = {"output_hidden_states": True}

    def __call__(self, batch: Any) -> tuple[Any, list[Tensor]]:
        """Return the model's output and its hidden states, first layer first."""
        self._found.clear()
        result = call(self.model, batch, **self._extra)
        if self._extra:
            return result, _reported(result, self.model)
        silent = [name for name in getattr(self, "names", ()) if name not in self._found]
        if silent:
            raise ArgumentError(f"layer {silent[0]!r} was not called, so it has no hidden state to compare")
        hidden = [self._found[name] for name in getattr(self, "names", ())]
        self._found.clear()
        return result, hidden

    def close(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()

    def _keeper(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def keep(module: nn.Module, args: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple | list) else output
            if not isinstance(tensor, Tensor):
                raise ArgumentError(
                    f"layer {name!r} returns a {type(tensor).__name__}, not a tensor; name another module"
                )
            self._found[name] = tensor

        return keep


def _reported(result: Any, model: nn.Module) -> list[Tensor]:
    """Return the hidden states a model reports, those of an encoder and a decoder one after another; no embeddings."""
    names = ("hidden_states", "encoder_hidden_states", "decoder_hidden_states")
    states = [state for name in names for state in (getattr(result, name, None) or ())[1:]]
    if not states:
        raise ArgumentError(
            f"{type(bare(model)).__name__} was asked for its hidden states and reports none; name the modules to compare with "
            "layers=('blocks.*',), or set hidden=0"
        )
    return states


def named_modules(model: nn.Module, layers: Sequence[str], role: str = "layers") -> list[str]:
    """Return the names of modules that names or globs mean, in the order of the model.

    Raises
    ------
    TargetError
        If one of them means none.
    """
    names = [name for name, _ in model.named_modules() if name]
    for layer in layers:
        if not any(fnmatchcase(name, layer) for name in names):
            raise TargetError(
                f"{role} {layer!r} matches no module of {type(model).__name__}; it begins with {', '.join(names[:4])}"
            )
    return [name for name in names if any(fnmatchcase(name, layer) for layer in layers)]


def hidden_loss(student: Sequence[Tensor], teacher: Sequence[Tensor], padding: Padding | None) -> Tensor:
    """Return the mean over layers of the squared error relative to the teacher's mean square."""
    if len(student) != len(teacher) or not student:
        raise ArgumentError(
            f"the student has {len(student)} hidden states and the teacher {len(teacher)}; they must agree"
        )
    return torch.stack([_relative(s, t, padding) for s, t in zip(student, teacher, strict=True)]).mean()


def output_loss(kind: str, student: Tensor, teacher: Tensor, padding: Padding | None) -> Tensor:
    """Return one minus the cosine (``"cosine"``), the relative squared error (``"mse"``), or the ``"cross-entropy"`` of two logits."""
    if kind == "mse":
        return _relative(student, teacher, padding)
    _same_shape(student, teacher)
    if kind == "cross-entropy":
        mine, theirs = (torch.nn.functional.log_softmax(logits.float(), dim=-1) for logits in (student, teacher))
        return _mean((theirs.exp() * (theirs - mine)).sum(-1), padding)
    cosine = torch.nn.functional.cosine_similarity(student.float(), teacher.float(), dim=-1)
    return 1 - _mean(cosine, padding)


def mean_pooled(output: Any, batch: Any) -> Tensor:
    """Return the mean of the last hidden state over real tokens, ``[B, H]``: a sentence embedding."""
    last: Tensor = output.last_hidden_state
    held = (
        [batch.get(name) for name in ("decoder_attention_mask", "attention_mask")] if isinstance(batch, Mapping) else []
    )
    mask = next((mask for mask in held if isinstance(mask, Tensor) and mask.shape == last.shape[:2]), None)
    if mask is None:
        return last.mean(dim=1)
    weight = mask.unsqueeze(-1).to(last.dtype)
    return (last * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


def final_output(output: Any, batch: Any) -> Tensor:
    """Return what is compared where the caller does not say: logits, a pooled last hidden state, or the tensor itself."""
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
        f"the model returns a {type(output).__name__} without logits or last_hidden_state; pass output=function(result, batch) "
        "that gives the tensor to compare"
    )


def _relative(student: Tensor, teacher: Tensor, padding: Padding | None) -> Tensor:
    _same_shape(student, teacher)
    goal = teacher.float()
    error = student.float() - goal
    # Norms, not square(): without the temporaries of torch's power kernel a whole step takes a tenth less time.
    squares, power = (torch.linalg.vector_norm(x, dim=-1).square() for x in (error, goal))
    return _mean(squares, padding) / _mean(power, padding).clamp(min=1e-12)


def _mean(values: Tensor, padding: Padding | None) -> Tensor:
    return values.mean() if padding is None else padding.mean(values)


def _same_shape(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ArgumentError(
            f"the student gives shape {list(student.shape)} where the teacher gives {list(teacher.shape)}; they must agree"
        )
