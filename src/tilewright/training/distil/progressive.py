"""`distill_progressively_`: train a student's blocks inside the teacher, replacing more of them over time."""

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

    For every batch, each block of the teacher is replaced by the student's with a probability that rises to 1 (the schedule of Xu
    et al., BERT-of-Theseus, arXiv 2002.02925). Hidden states, attention and output of this mixed model are compared with the
    teacher's, so each block learns inside a model whose other blocks still work. Modules around the blocks are the teacher's
    until every block is the student's, and the student's from then on. `method` may prune at the same time.

    With a checkpoint, a run that is killed at any time and restarted with the same arguments ends bit-identical to an
    uninterrupted run (on the same machine, with the same number of threads).

    Parameters
    ----------
    student
        The model to train: dense, or with masks from `sparsify_`. Its blocks must fit into the teacher.
    teacher
        The dense model, which stays unchanged, for example a deep copy of the student from before pruning.
    batches
        A sequence whose ``batches[i]`` is always the same batch, as in `recover_`.
    modules
        Names or globs of the blocks, such as ``["encoder.layer.*"]``. If matches are nested, only the outermost count. Each block
        must take the same arguments as the teacher's module of the same name.
    options
        Steps, learning rate, replacement schedule and loss terms, see `ProgressiveOptions`.
    method
        How to prune while distilling, as in `train_`, for example `Gradual`. Default: hold the masks the student has, if any.
    output
        ``output(result, batch)`` returns the tensor of the output term, as in `recover_`. Default: as in `recover_`.
    checkpoint, progress
        As in `train_`. The extras of `progress` also hold ``replaced``, the share of blocks that were the student's.

    Returns
    -------
    Training
        Steps, losses and notes of the run.

    Raises
    ------
    TargetError
        If an expression matches no module, or the teacher lacks a module that the student has.
    ArgumentError
        If the arguments contradict each other, the student is distributed over several processes, or the checkpoint belongs to a
        different run.
    FormatError
        If the checkpoint is damaged.
    CheckFailed
        If the loss or its gradient becomes infinite or NaN, or a mask no longer holds.
    OSError
        If the checkpoint cannot be written.

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
    target = checkpoint if isinstance(checkpoint, Checkpoint | None) else Checkpoint(checkpoint)
    composite = Composite(student, teacher, modules)
    terms = _Terms(composite, options, output or final_output)
    with (
        prepared(student, batches, _unused, options, method, target is not None) as (task, sparsifier),
        _still(teacher),
    ):
        inputs = dict(task.inputs) | (_inputs(composite, output) if target else {})
        task = replace(task, terms=terms, batches=_Numbered(batches), inputs=inputs)
        return run_(task, sparsifier, target, progress)


class _Numbered:
    """Batches paired with their index, on which the draws depend."""

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
        blocks = drawn(composite.names, probability, options.seed, index)
        with torch.no_grad():
            goal = self._run(composite.teacher, batch)
        with composite.using(blocks) as model:
            sight = self._run(model, batch)
        terms = self._compared(sight, goal, batch, padding)
        total = torch.stack([getattr(options, name) * term for name, term in terms.items()]).sum()
        return total, {**terms, "replaced": torch.tensor(len(blocks) / len(composite.names))}

    def _run(self, model: nn.Module, batch: Any) -> Sight:
        return run_watched(model, batch, self.layers, self.attentions)

    def _compared(self, sight: Sight, goal: Sight, batch: Any, padding: Padding | None) -> dict[str, Tensor]:
        terms = {}
        for name, states, goals in (
            ("hidden", sight.hidden, goal.hidden),
            ("attention", sight.attention, goal.attention),
        ):
            if states:
                terms[name] = hidden_loss([states[key] for key in states], [goals[key] for key in states], padding)
        if self.options.output:
            outputs = self.output(sight.result, batch), self.output(goal.result, batch)
            terms["output"] = output_loss(self.options.output_loss, *outputs, padding)
        return terms


@contextmanager
def _still(teacher: nn.Module) -> Iterator[None]:
    """Put the teacher into evaluation mode with frozen parameters; undo both on exit."""
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
            "the student is distributed over several processes, but which of its blocks get gradients changes from batch to batch, "
            "so the processes would wait for each other; distil it in a single process"
        )
    refuse_shared(student, teacher)


def _unused(model: nn.Module, batch: Any) -> Tensor:
    raise AssertionError("the terms replace this loss")


def _inputs(composite: Composite, output: Output | None) -> dict[str, str]:
    """Return hashes of the inputs that determine the result, besides those of `train_`."""
    state = dict(composite.teacher.named_parameters())
    return {
        "teacher": digest(state, dict(composite.teacher.named_buffers())),
        "modules": digest(composite.names, getattr(output, "__qualname__", type(output).__qualname__)),
    }
