"""`Distillation`: a teacher as the loss of any training, so that every method can recover quality without labels."""

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
    """The loss of `recover_`, for `train_` and `inherit_`: hidden states and output against a dense model.

    Parameters
    ----------
    teacher
        Put into eval mode and otherwise left as it is.
    options
        Its fields `hidden`, `output`, `output_loss` and `layers` count.
    output
        ``output(result, batch)`` gives the tensor of the output term, as in `recover_`.
    scored
        Whether gradients are also to score weights. A student that is the dense model to the bit is at the least loss there is: all its
        gradients are zero, and so would be all Taylor scores. While nothing is pruned, the gradient of the output along
        a random direction is added then, other for each batch, and the value of the loss stays what it is. The mean square of these
        gradients is the diagonal of the Gauss-Newton matrix: what the distance to the teacher grows by.

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
        # Checkpoints of a training are told apart by the name of its loss; this one's is as good as its teacher.
        weights = digest(dict(bare(teacher).named_parameters()), getattr(output, "__qualname__", ""), scored)
        self.__qualname__ = f"{type(self).__qualname__} {weights}"

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the loss of a batch, a scalar.

        Raises
        ------
        ArgumentError
            If the model shares parameters with the teacher, or their outputs do not fit together.
        """
        refuse_shared(bare(model), self.teacher)
        options = self.options
        batch, padding = PaddingReader(bare(model)).read(batch)
        with torch.no_grad():
            goal, goals = self._seen(self.teacher, batch)
            aim = self.output(goal, batch) if options.output else None
        result, hidden = self._seen(model, batch)
        terms = [options.hidden * hidden_loss(hidden, goals, padding)] if options.hidden else []
        if aim is not None:
            terms.append(options.output * output_loss(options.output_loss, self.output(result, batch), aim, padding))
        if self.scored and all(bool(mask.all()) for mask in masks_of(bare(model)).values()):
            terms.append(_direction(self.output(result, batch), batch))
        return torch.stack(terms).sum()

    def _seen(self, model: nn.Module, batch: Any) -> tuple[Any, list[Tensor]]:
        probe = Probe(model, self.options.layers, self.options.hidden > 0)
        try:
            return probe(batch)
        finally:
            probe.close()


def _direction(output: Tensor, batch: Any) -> Tensor:
    """Return a zero whose gradient is that of the output, each row of length 1, along a direction that depends on the batch alone."""
    seed = int(digest(batch)[:12], 16)
    noise = torch.randn(output.shape, generator=torch.Generator().manual_seed(seed)).to(output.device)
    along = (torch.nn.functional.normalize(output.float(), dim=-1) * noise).sum(-1).mean()
    return along - along.detach()
