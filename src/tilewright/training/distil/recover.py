"""`recover_`: train what a mask has kept until the model behaves like the dense one again."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ArgumentError
from ...graph import evaluating
from ...pruning import PaddingReader, masks_of
from ...records import digest
from ..checkpoint import Checkpoint
from ..distributed import bare
from ..loop import Indexed, StepCallback, Task, Training, arranged, require_batches, run_, trained_of
from ..methods import FixedMask
from ..options import RecoverOptions
from ..sparsifier import Sparsifier
from ..train import sample
from .losses import Output, Probe, final_output, hidden_loss, output_loss

__all__ = ["Recovery", "recover_", "refuse_shared"]

Recovery = Training
"""What `recover_` did."""


def recover_(
    student: nn.Module,
    teacher: nn.Module,
    batches: Indexed,
    *,
    options: RecoverOptions,
    output: Output | None = None,
    checkpoint: Checkpoint | Path | str | None = None,
    progress: StepCallback | None = None,
) -> Recovery:
    """Train a masked model in place to follow a dense one; its zeros stay where they are.

    With a checkpoint, a run killed at any instant and started again with the same arguments ends with the same bits as one
    that was never interrupted (on the same machine, with the same number of threads).

    Parameters
    ----------
    student
        With masks, from `sparsify_`.
    teacher
        The dense model, which is left as it is. A deep copy made before pruning will do.
    batches
        ``batches[i]`` is the batch of step i, the same whenever it is asked for. A mapping is passed to the models as keywords, a
        tuple or list as positional arguments.
    options
        See `RecoverOptions`.
    output
        ``output(result, batch)`` gives the tensor of the output term. By default the logits, or the mean over tokens of the last
        hidden state, or the tensor that the model returns.
    checkpoint
        A file to save to and, if it exists, to go on from; `Checkpoint` says how often.
    progress
        Called after every step.

    Raises
    ------
    ArgumentError
        If student, teacher, batches and options do not fit together, or the checkpoint is another run's.
    FormatError
        If the checkpoint is damaged.
    CheckFailed
        If the loss or its gradient is no longer finite, or masks do not hold.
    OSError
        If a checkpoint cannot be written.

    Examples
    --------
    >>> import copy, tilewright
    >>> teacher = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    >>> student = copy.deepcopy(teacher)
    >>> report = tilewright.sparsify_(student, "2:4")
    >>> batches = [torch.randn(16, 8) for _ in range(20)]
    >>> recover_(student, teacher, batches, options=RecoverOptions(steps=20, hidden=0)).steps
    20
    """
    _check(student, teacher)
    require_batches(batches, options)
    where = checkpoint if isinstance(checkpoint, Checkpoint | None) else Checkpoint(checkpoint)
    with arranged(student, options), _probed(student, teacher, options) as probes:
        trained_of(bare(student))
        terms = _Terms(probes, options, output or final_output)
        inputs = _inputs(student, teacher, batches, options, output) if where else {}
        task = Task(student, terms, batches, options, inputs)
        return run_(task, Sparsifier(student, FixedMask()), where, progress)


class _Terms:
    """The loss of a batch: hidden states and output of the student against the teacher's."""

    def __init__(self, probes: tuple[Probe, Probe], options: RecoverOptions, output: Output) -> None:
        self.student, self.teacher = probes
        self.options, self.output = options, output
        self.reader = PaddingReader(bare(self.student.model))

    def __call__(self, batch: Any) -> tuple[Tensor, Mapping[str, Tensor]]:
        options = self.options
        batch, padding = self.reader.read(batch)
        with torch.no_grad():
            goal, goals = self.teacher(batch)
            aim = self.output(goal, batch) if options.output else None
        result, hidden = self.student(batch)
        mine = self.output(result, batch) if options.output else None
        terms = {}
        if options.hidden:
            terms["hidden"] = hidden_loss(hidden, goals, padding)
        if mine is not None and aim is not None:
            terms["output"] = output_loss(options.output_loss, mine, aim, padding)
        return torch.stack([getattr(options, name) * term for name, term in terms.items()]).sum(), terms


@contextmanager
def _probed(student: nn.Module, teacher: nn.Module, options: RecoverOptions) -> Iterator[tuple[Probe, Probe]]:
    """Put the teacher into eval mode and hook into both models; undo it afterwards."""
    probes: list[Probe] = []
    try:
        for model in (student, teacher):
            probes.append(Probe(model, options.layers, options.hidden > 0))  # noqa: PERF401 (closed also if the second fails)
        with evaluating(teacher):
            yield probes[0], probes[1]
    finally:
        for probe in probes:
            probe.close()


def _check(student: nn.Module, teacher: nn.Module) -> None:
    """Refuse what cannot work."""
    if not masks_of(student):
        raise ArgumentError("the student has no masks, so there is nothing to hold at zero; call sparsify_ on it first")
    refuse_shared(student, teacher)


def refuse_shared(student: nn.Module, teacher: nn.Module) -> None:
    """Raise `ArgumentError` if training the student would change the teacher."""
    shared = {id(parameter) for parameter in teacher.parameters()}
    mine = [name for name, parameter in student.named_parameters() if id(parameter) in shared]
    if mine:
        raise ArgumentError(
            f"student and teacher share the parameter {mine[0]}, so training one would change the other; "
            "make the teacher a copy.deepcopy of the model from before it was pruned"
        )


def _inputs(
    student: nn.Module, teacher: nn.Module, batches: Indexed, options: RecoverOptions, output: Output | None
) -> dict[str, str]:
    """Return a hash of each thing that decides what the run computes. Of the batches three are looked at."""
    return {
        "options": digest(asdict(options), getattr(output, "__qualname__", type(output).__qualname__)),
        "batches": digest(sample(batches, options)),
        "masks": digest(masks_of(student)),
        "teacher": digest(dict(bare(teacher).named_parameters())),
    }
