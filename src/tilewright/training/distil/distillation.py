"""`Distillation`: a loss against a teacher, so that every method can recover quality without labels."""

from typing import Any

import torch
from torch import Tensor, nn

from ...pruning import PaddingReader, masks_of
from ...records import digest
from ..distributed import bare
from ..options import RecoverOptions
from .losses import Output, Probe, final_output, hidden_loss, output_loss
from .recover import refuse_shared

__all__ = ["Distillation"]


class Distillation:
    """The loss of `recover_`, hidden states and output against a dense model, for use in `train_` and `inherit_`.

    Parameters
    ----------
    teacher
        The dense model. It is put into evaluation mode and otherwise unchanged.
    options
        The terms of the loss: only the fields `hidden`, `output`, `output_loss` and `layers` are used.
    output
        ``output(result, batch)`` returns the tensor of the output term, as in `recover_`. Default: as in `recover_`.
    scored
        Whether the gradients must also provide Taylor scores. A student identical to its teacher is at the minimum of the loss, so
        all its gradients, and with them all Taylor scores, are zero. If set, then while nothing is pruned the gradient of the output
        along a random direction, different for each batch, is added; the value of the loss is unchanged. The mean square of these
        gradients is the diagonal of the Gauss-Newton matrix, which measures how fast the distance to the teacher grows. Default:
        False.

    Examples
    --------
    >>> import copy
    >>> from tilewright.training import Gradual, train_
    >>> student = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    >>> teacher = copy.deepcopy(student)
    >>> options = RecoverOptions(steps=20, hidden=0)
    >>> batches = [torch.randn(16, 8) for _ in range(20)]
    >>> train_(
    ...     student, batches, Distillation(teacher, options), options=options, method=Gradual("2:4", end=10, every=5)
    ... ).steps
    20
    """

    def __init__(
        self, teacher: nn.Module, options: RecoverOptions, output: Output | None = None, *, scored: bool = False
    ) -> None:
        self.teacher, self.scored = teacher.eval(), scored
        self.options, self.output = options, output or final_output
        # Checkpoints identify a loss by its qualified name, so this one includes a hash of the teacher.
        weights = digest(dict(bare(teacher).named_parameters()), getattr(output, "__qualname__", ""), scored)
        self.__qualname__ = f"{type(self).__qualname__} {weights}"

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the loss of a batch, a scalar tensor.

        Raises
        ------
        ArgumentError
            If the model shares parameters with the teacher, or their outputs differ in shape or number.
        """
        refuse_shared(bare(model), self.teacher)
        options = self.options
        batch, padding = PaddingReader(bare(model)).read(batch)
        with torch.no_grad():
            teacher_result, teacher_hidden = self._run(self.teacher, batch)
            goal = self.output(teacher_result, batch) if options.output else None
        result, hidden = self._run(model, batch)
        terms = [options.hidden * hidden_loss(hidden, teacher_hidden, padding)] if options.hidden else []
        if goal is not None:
            terms.append(options.output * output_loss(options.output_loss, self.output(result, batch), goal, padding))
        if self.scored and all(bool(mask.all()) for mask in masks_of(bare(model)).values()):
            terms.append(_direction(self.output(result, batch), batch))
        return torch.stack(terms).sum()

    def _run(self, model: nn.Module, batch: Any) -> tuple[Any, list[Tensor]]:
        probe = Probe(model, self.options.layers, self.options.hidden > 0)
        try:
            return probe(batch)
        finally:
            probe.close()


def _direction(output: Tensor, batch: Any) -> Tensor:
    """Return 0 with the gradient of the output, rows scaled to length 1, along a direction that depends only on the batch."""
    seed = int(digest(batch)[:12], 16)
    noise = torch.randn(output.shape, generator=torch.Generator().manual_seed(seed)).to(output.device)
    projection = (torch.nn.functional.normalize(output.float(), dim=-1) * noise).sum(-1).mean()
    return projection - projection.detach()
