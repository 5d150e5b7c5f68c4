"""`FixedMask`: train the elements kept by the masks of `sparsify_`."""

from dataclasses import dataclass

from .base import Method

__all__ = ["FixedMask"]


@dataclass(frozen=True)
class FixedMask(Method):
    """Hold the masks a model already has: prune once with `sparsify_`, then train (Mishra et al., arXiv 2104.08378, section 4).

    Gradients of pruned elements are dropped before the optimizer step, so they affect neither moments nor norms. Pruned weights are
    zeroed after the step, whatever weight decay and momentum did to them.
    """
