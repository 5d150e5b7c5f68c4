"""`FixedMask`: train what the masks of `sparsify_` have kept."""

from dataclasses import dataclass

from .base import Method

__all__ = ["FixedMask"]


@dataclass(frozen=True)
class FixedMask(Method):
    """Hold the masks that a model has: prune once with `sparsify_`, then train (Mishra et al., arXiv 2104.08378, section 4).

    Gradients of pruned elements are dropped before the optimizer sees them, so that they count neither in moments nor in
    norms, and pruned weights are zeroed after it, whatever weight decay and momentum did.
    """
