"""`distill_progressively_`: the student's blocks take the places of the teacher's one by one, and learn inside of it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ArgumentError
from ...graph import evaluating
from ...pruning import Padding, PaddingReader, local
from ...records import digest
from ..checkpoint import Checkpoint
from ..distributed import bare
from ..loop import Indexed, StepCallback, Training, require_batches, run_
from ..methods import Method
from ..options import ProgressiveOptions
from ..sparsifier import Sparsifier
from ..train import prepared
from .composite import Composite, Sight, drawn, run_watched
from .losses import Output, final_output, hidden_loss, named_modules, output_loss
from .recover import refuse_shared

__all__ = ["distill_progressively_"]


def distill_progressively_(
    student: nn.Module,
    teacher: nn.Module,
    batches: Indexed,
    *,
    modules: Sequence[str],
    options: ProgressiveOptions,
    method: Method | Sparsifier | None = None,
    output: Output | None = None,
    checkpoint: Checkpoint | Path | str | None = None,
    progress: StepCallback | None = None,
) -> Training:
    """Train a student in place inside its teacher: sparse progressive distillation (Huang et al., arXiv 2110.08190).

    For every batch each block of the running teacher is replaced by the student's with a probability that rises to 1 (the schedule
    of Xu et al., BERT-of-Theseus, arXiv 2002.02925), and what comes out is compared with the teacher: hidden states, attention
    and output. A block's gradient is that of its part in a model whose other blocks still work. Once all blocks are the
    student's, so is everything around them; before, that is the teacher's. `method` may prune meanwhile.

    With a checkpoint, a run killed at any instant and started again with the same arguments ends with the same bits as one
    that was never interrupted (on the same machine, with the same number of threads).

    Parameters
    ----------
    student
        Built like the teacher around its blocks; dense, or with masks from `sparsify_`.
    teacher
        Left as it is. A deep copy of the student made before pruning will do.
    batches
        As in `recover_`.
    modules
        Names or globs of the blocks, such as ``["encoder.layer.*"]``; of matches inside one another the outermost count. Each
        is called like the teacher's module of the same name.
    options
        See `ProgressiveOptions`.
    method
        As in `train_`. `Gradual` prunes while distilling.
    output
        ``output(result, batch)`` gives the tensor of the output term, as in `recover_`.
    checkpoint, progress
        As in `train_`. Extras of progress are also the terms of the loss, and ``replaced``, the share of blocks replaced.

    Raises
    ------
    TargetError
        If a name matches no module, or the teacher has no such module.
    ArgumentError
        If the arguments do not fit together, the student is trained in several processes, or the checkpoint is another run's.
    FormatError
        If the checkpoint is damaged.
    CheckFailed
        If the loss or its gradient is no longer finite, or masks do not hold.
    OSError
        If a checkpoint cannot be written.

    Examples
    --------
    >>> import copy
    >>> from tilewright.training import Gradual
    >>> teacher = nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(3)))
    >>> student = copy.deepcopy(teacher)
    >>> batches = [torch.randn(16, 8) for _ in range(20)]
    >>> options = ProgressiveOptions(steps=20, output_loss="mse")
    >>> distill_progressively_(
    ...     student, teacher, batches, modules=["?"], options=options, method=Gradual("2:8", end=15, every=5)
    ... ).steps
    20
    >>> int(student[0][0].weight.count_nonzero())
    16
    """
    _check(student, teacher)
    require_batches(batches, options)
    where = checkpoint if isinstance(checkpoint, Checkpoint | None) else Checkpoint(checkpoint)
    composite = Composite(student, teacher, modules)
    terms = _Terms(composite, options, output or final_output)
    with prepared(student, batches, _unused, options, method, where is not None) as (task, sparsifier), _still(teacher):
        inputs = dict(task.inputs) | (_inputs(composite, output) if where else {})
        task = replace(task, terms=terms, batches=_Numbered(batches), inputs=inputs)
        return run_(task, sparsifier, where, progress)


class _Numbered:
    """Batches that know their index, on which the draws depend."""

    def __init__(self, batches: Indexed) -> None:
        self._batches = batches

    def __getitem__(self, index: int) -> tuple[int, Any]:
        return index, self._batches[index]


class _Terms:
    """The loss of a batch: the composite's hidden states, attention and output against the teacher's."""

    def __init__(self, composite: Composite, options: ProgressiveOptions, output: Output) -> None:
        self.composite, self.options, self.output = composite, options, output
        student = composite.student
        self.reader = PaddingReader(student)
        layers = named_modules(student, options.layers) if options.layers else composite.names
        self.layers = list(layers) if options.hidden else []
        self.attentions = named_modules(student, options.attentions, "attentions") if options.attention else []

    def __call__(self, numbered: tuple[int, Any]) -> tuple[Tensor, Mapping[str, Tensor]]:
        index, batch = numbered
        options, composite = self.options, self.composite
        batch, padding = self.reader.read(batch)
        probability = options.replacing(index // options.accumulate)
        chosen = drawn(composite.names, probability, options.seed, index)
        with torch.no_grad():
            goal = self._run(composite.teacher, batch)
        with composite.using(chosen) as model:
            found = self._run(model, batch)
        terms = self._compared(found, goal, batch, padding)
        total = torch.stack([getattr(options, name) * term for name, term in terms.items()]).sum()
        return total, {**terms, "replaced": torch.tensor(len(chosen) / len(composite.names))}

    def _run(self, model: nn.Module, batch: Any) -> Sight:
        return run_watched(model, batch, self.layers, self.attentions)

    def _compared(self, found: Sight, goal: Sight, batch: Any, padding: Padding | None) -> dict[str, Tensor]:
        terms = {}
        for name, mine, theirs in (
            ("hidden", found.hidden, goal.hidden),
            ("attention", found.attention, goal.attention),
        ):
            if mine:
                terms[name] = hidden_loss([mine[key] for key in mine], [theirs[key] for key in mine], padding)
        if self.options.output:
            mine_out, aim = self.output(found.result, batch), self.output(goal.result, batch)
            terms["output"] = output_loss(self.options.output_loss, mine_out, aim, padding)
        return terms


@contextmanager
def _still(teacher: nn.Module) -> Iterator[None]:
    """Keep the teacher in eval mode and without gradients of its own; undo it afterwards."""
    trained = [parameter for parameter in teacher.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        with evaluating(teacher):
            yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def _check(student: nn.Module, teacher: nn.Module) -> None:
    if bare(student) is not student or any(local(p).shape != p.shape for p in student.parameters()):
        raise ArgumentError(
            "the student is trained in several processes, and which of its blocks get a gradient changes from batch to batch, "
            "which those would wait for; distil it in one process"
        )
    refuse_shared(student, teacher)


def _unused(model: nn.Module, batch: Any) -> Tensor:
    raise AssertionError("the terms take the place of the loss")


def _inputs(composite: Composite, output: Output | None) -> dict[str, str]:
    """Return hashes of what decides the result beside what `train_` is given."""
    state = dict(composite.teacher.named_parameters())
    return {
        "teacher": digest(state, dict(composite.teacher.named_buffers())),
        "modules": digest(composite.names, getattr(output, "__qualname__", type(output).__qualname__)),
    }
