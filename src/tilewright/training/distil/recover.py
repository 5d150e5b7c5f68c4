"""`recover_`: train the kept weights until the model behaves like the dense one again."""

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
"""The result of `recover_`."""


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
    """Train a masked model in place to follow a dense one; pruned elements stay zero.

    With a checkpoint, a run that is killed at any time and restarted with the same arguments ends bit-identical to an
    uninterrupted run (on the same machine, with the same number of threads).

    Parameters
    ----------
    student
        The model to train, with masks from `sparsify_`.
    teacher
        The dense model, which stays unchanged, for example a deep copy of the student from before pruning.
    batches
        A sequence whose ``batches[i]`` is always the same batch, such as `Batches`. A mapping is passed to the models as keyword
        arguments, a tuple or list as positional arguments.
    options
        Steps, learning rate, terms of the loss and everything else, see `RecoverOptions`.
    output
        ``output(result, batch)`` returns the tensor of the output term. Default: the logits, or the mean of the last hidden state
        over tokens, or the tensor that the model returns.
    checkpoint
        A file to save to, and to resume from if it exists. Pass a `Checkpoint` to set how often to save.
    progress
        A callback that runs after every step, see `StepCallback`.

    Returns
    -------
    Recovery
        Steps, losses and notes of the run.

    Raises
    ------
    ArgumentError
        If student, teacher, batches and options do not match, or the checkpoint belongs to a different run.
    FormatError
        If the checkpoint is damaged.
    CheckFailed
        If the loss or its gradient becomes infinite or NaN, or a mask no longer holds.
    OSError
        If the checkpoint cannot be written.

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
    target = checkpoint if isinstance(checkpoint, Checkpoint | None) else Checkpoint(checkpoint)
    with arranged(student, options), _probed(student, teacher, options) as probes:
        trained_of(bare(student))
        terms = _Terms(probes, options, output or final_output)
        inputs = _inputs(student, teacher, batches, options, output) if target else {}
        task = Task(student, terms, batches, options, inputs)
        return run_(task, Sparsifier(student, FixedMask()), target, progress)


class _Terms:
    """The loss of a batch: the student's hidden states and output against the teacher's."""

    def __init__(self, probes: tuple[Probe, Probe], options: RecoverOptions, output: Output) -> None:
        self.student, self.teacher = probes
        self.options, self.output = options, output
        self.reader = PaddingReader(bare(self.student.model))

    def __call__(self, batch: Any) -> tuple[Tensor, Mapping[str, Tensor]]:
        options = self.options
        batch, padding = self.reader.read(batch)
        with torch.no_grad():
            teacher_result, teacher_hidden = self.teacher(batch)
            goal = self.output(teacher_result, batch) if options.output else None
        result, hidden = self.student(batch)
        output = self.output(result, batch) if options.output else None
        terms = {}
        if options.hidden:
            terms["hidden"] = hidden_loss(hidden, teacher_hidden, padding)
        if output is not None and goal is not None:
            terms["output"] = output_loss(options.output_loss, output, goal, padding)
        return torch.stack([getattr(options, name) * term for name, term in terms.items()]).sum(), terms


@contextmanager
def _probed(student: nn.Module, teacher: nn.Module, options: RecoverOptions) -> Iterator[tuple[Probe, Probe]]:
    """Put the teacher into evaluation mode and probe both models; undo both on exit."""
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
    """Raise `ArgumentError` if the student has no masks or shares parameters with the teacher."""
    if not masks_of(student):
        raise ArgumentError("the student has no masks to hold; call sparsify_ on it first")
    refuse_shared(student, teacher)


def refuse_shared(student: nn.Module, teacher: nn.Module) -> None:
    """Raise `ArgumentError` if student and teacher share parameters."""
    parameters = {id(parameter) for parameter in teacher.parameters()}
    shared = [name for name, parameter in student.named_parameters() if id(parameter) in parameters]
    if shared:
        raise ArgumentError(
            f"student and teacher share the parameter {shared[0]}, so training one would change the other; "
            "use copy.deepcopy(model), made before pruning, as the teacher"
        )


def _inputs(
    student: nn.Module, teacher: nn.Module, batches: Indexed, options: RecoverOptions, output: Output | None
) -> dict[str, str]:
    """Return a hash of each input that determines the result; of the batches, three are sampled."""
    return {
        "options": digest(asdict(options), getattr(output, "__qualname__", type(output).__qualname__)),
        "batches": digest(sample(batches, options)),
        "masks": digest(masks_of(student)),
        "teacher": digest(dict(bare(teacher).named_parameters())),
    }
