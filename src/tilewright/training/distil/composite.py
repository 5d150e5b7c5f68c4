"""`Composite`: a teacher in which some blocks are the student's; `run_watched`: its outputs, module by module."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn

from ...errors import ArgumentError, TargetError
from ...graph import call
from .losses import named_modules

__all__ = ["Composite", "Sight", "drawn", "run_watched"]

_DRAWS = 0x7E5E0
"""Third word of the draws' seed, which keeps them independent of the batch order, whose seed has two words."""


class Composite:
    """A teacher whose blocks can be swapped for the student's blocks of the same name.

    Parameters
    ----------
    student, teacher
        Models whose blocks have the same names and call signatures.
    modules
        Names or globs of the blocks. If matches are nested, only the outermost count.

    Raises
    ------
    TargetError
        If an expression matches no module of the student, or the teacher has no module of the same name.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module, modules: Sequence[str]) -> None:
        self.student, self.teacher = student, teacher
        self.names = _blocks(student, modules)
        self._pairs: dict[str, tuple[nn.Module, str, nn.Module, nn.Module]] = {}
        teacher_modules, student_modules = dict(teacher.named_modules()), dict(student.named_modules())
        for name in self.names:
            if name not in teacher_modules:
                raise TargetError(
                    f"the teacher has no module {name!r}, but the student does; blocks need the same names in both models"
                )
            parent, _, child = name.rpartition(".")
            self._pairs[name] = (teacher_modules[parent], child, student_modules[name], teacher_modules[name])

    @contextmanager
    def using(self, chosen: Collection[str]) -> Iterator[nn.Module]:
        """Yield the teacher with the chosen blocks replaced by the student's; the student itself if all are chosen."""
        if len(chosen) == len(self.names):
            yield self.student
            return
        try:
            for name in chosen:
                parent, child, student_block, _ = self._pairs[name]
                parent._modules[child] = student_block
            yield self.teacher
        finally:
            for parent, child, _, teacher_block in self._pairs.values():
                parent._modules[child] = teacher_block


def drawn(names: Sequence[str], probability: float, seed: int, index: int) -> list[str]:
    """Return the blocks to take from the student for the batch at an index: each with the given probability, and at least one.

    A batch without a student block would train nothing, so one is then picked at random. The draw depends only on the arguments.
    """
    generator = np.random.default_rng([seed, index, _DRAWS])
    draws = generator.random(len(names))
    blocks = [name for name, draw in zip(names, draws, strict=True) if draw < probability]
    return blocks or [names[int(generator.integers(len(names)))]]


@dataclass
class Sight:
    """The result of one forward pass, with hidden states and attention tensors by module name."""

    result: Any = None
    hidden: dict[str, Tensor] = field(default_factory=dict)
    attention: dict[str, Tensor] = field(default_factory=dict)


def run_watched(model: nn.Module, batch: Any, layers: Sequence[str], attentions: Sequence[str]) -> Sight:
    """Call a model and capture the outputs of the named modules, with hooks for this call only.

    Raises
    ------
    ArgumentError
        If a module was not called, or did not return a tensor.
    TargetError
        If the model lacks one of the modules.
    """
    sight = Sight()
    modules = dict(model.named_modules())
    handles = []
    try:
        for names, kept, take in ((layers, sight.hidden, _first), (attentions, sight.attention, _attention)):
            for name in names:
                if name not in modules:
                    raise TargetError(f"the teacher has no module {name!r}, but the student does")
                handles.append(modules[name].register_forward_hook(_keeper(name, kept, take)))
        sight.result = call(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    silent = [
        n for names, kept in ((layers, sight.hidden), (attentions, sight.attention)) for n in names if n not in kept
    ]
    if silent:
        raise ArgumentError(f"module {silent[0]!r} was not called, so it has no output to compare")
    return sight


def _blocks(model: nn.Module, modules: Sequence[str]) -> list[str]:
    if isinstance(modules, str) or not modules:
        raise TargetError(f"modules must be a non-empty list of names or globs of blocks; got {modules!r}")
    names = named_modules(model, modules, "modules")
    return [name for name in names if not any(name.startswith(f"{other}.") for other in names)]


def _keeper(name: str, kept: dict[str, Tensor], take: Callable[[Any], Any]) -> Callable[[nn.Module, Any, Any], None]:
    def keep(module: nn.Module, args: Any, output: Any) -> None:
        tensor = take(output)
        if not isinstance(tensor, Tensor):
            raise ArgumentError(
                f"module {name!r} must return a tensor, but it returns a {type(tensor).__name__}; name another module"
            )
        kept[name] = tensor

    return keep


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple | list) else output


def _attention(output: Any) -> Any:
    """Return attention probabilities as ``[B, T, H * T]``, so that padding can be ignored by token; otherwise the module's output."""
    if isinstance(output, tuple | list) and len(output) > 1 and isinstance(output[1], Tensor) and output[1].ndim == 4:
        return output[1].transpose(1, 2).flatten(2)
    return _first(output)
