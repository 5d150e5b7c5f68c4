"""`Composite`: a teacher in which some blocks are the student's; and what is looked at while such a model runs."""

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
"""Third word of the seed of the draws, so that they share nothing with the order of batches, which two words make."""


class Composite:
    """A teacher whose blocks can be exchanged for the student's of the same name.

    Parameters
    ----------
    student, teacher
        Models that call their blocks alike.
    modules
        Names or globs of the blocks; of matches inside one another the outermost count.

    Raises
    ------
    TargetError
        If an expression matches no module of the student, or the teacher has no module of that name.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module, modules: Sequence[str]) -> None:
        self.student, self.teacher = student, teacher
        self.names = _blocks(student, modules)
        self._pairs: dict[str, tuple[nn.Module, str, nn.Module, nn.Module]] = {}
        theirs, mine = dict(teacher.named_modules()), dict(student.named_modules())
        for name in self.names:
            if name not in theirs:
                raise TargetError(f"the teacher has no module {name!r}, which the student has; blocks need equal names")
            parent, _, child = name.rpartition(".")
            self._pairs[name] = (theirs[parent], child, mine[name], theirs[name])

    @contextmanager
    def using(self, chosen: Collection[str]) -> Iterator[nn.Module]:
        """Yield the model whose chosen blocks are the student's; with all of them it is the student itself."""
        if len(chosen) == len(self.names):
            yield self.student
            return
        try:
            for name in chosen:
                parent, child, mine, _ = self._pairs[name]
                parent._modules[child] = mine
            yield self.teacher
        finally:
            for parent, child, _, theirs in self._pairs.values():
                parent._modules[child] = theirs


def drawn(names: Sequence[str], probability: float, seed: int, index: int) -> list[str]:
    """Return the blocks that are the student's in the batch of an index: each with a probability, and at least one.

    A batch without any would teach nothing; its one block is taken at random. Draws depend on the arguments alone.
    """
    generator = np.random.default_rng([seed, index, _DRAWS])
    chance = generator.random(len(names))
    chosen = [name for name, value in zip(names, chance, strict=True) if value < probability]
    return chosen or [names[int(generator.integers(len(names)))]]


@dataclass
class Sight:
    """What was seen of one run: the model's result, and tensors by module name."""

    result: Any = None
    hidden: dict[str, Tensor] = field(default_factory=dict)
    attention: dict[str, Tensor] = field(default_factory=dict)


def run_watched(model: nn.Module, batch: Any, layers: Sequence[str], attentions: Sequence[str]) -> Sight:
    """Call a model and keep the outputs of the named modules. Hooks are there for this call only.

    Raises
    ------
    ArgumentError
        If a module was not called, or returned no tensor.
    TargetError
        If the model has no such module.
    """
    sight = Sight()
    modules = dict(model.named_modules())
    handles = []
    try:
        for names, kept, take in ((layers, sight.hidden, _first), (attentions, sight.attention, _attention)):
            for name in names:
                if name not in modules:
                    raise TargetError(f"the teacher has no module {name!r}, which the student has")
                handles.append(modules[name].register_forward_hook(_keeper(name, kept, take)))
        sight.result = call(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    silent = [
        n for names, kept in ((layers, sight.hidden), (attentions, sight.attention)) for n in names if n not in kept
    ]
    if silent:
        raise ArgumentError(f"module {silent[0]!r} was not called, so there is nothing of it to compare")
    return sight


def _blocks(model: nn.Module, modules: Sequence[str]) -> list[str]:
    if isinstance(modules, str) or not modules:
        raise TargetError(f"modules must be a list of names or globs of blocks, and it is {modules!r}")
    found = named_modules(model, modules, "modules")
    return [name for name in found if not any(name.startswith(f"{other}.") for other in found)]


def _keeper(name: str, kept: dict[str, Tensor], take: Callable[[Any], Any]) -> Callable[[nn.Module, Any, Any], None]:
    def keep(module: nn.Module, args: Any, output: Any) -> None:
        tensor = take(output)
        if not isinstance(tensor, Tensor):
            raise ArgumentError(f"module {name!r} returns a {type(tensor).__name__}, not a tensor; name another module")
        kept[name] = tensor

    return keep


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple | list) else output


def _attention(output: Any) -> Any:
    """Return attention probabilities as ``[B, T, H * T]``, so that padding can be left out by token, or the module's output."""
    if isinstance(output, tuple | list) and len(output) > 1 and isinstance(output[1], Tensor) and output[1].ndim == 4:
        return output[1].transpose(1, 2).flatten(2)
    return _first(output)
