"""`Check`: a requirement and the measured value."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

__all__ = ["Check"]


@dataclass(frozen=True)
class Check:
    """A requirement and its outcome.

    Parameters
    ----------
    name
        What is compared, in words: ``"MRR, share of dense"``.
    value
        The measured value.
    limit
        The required value: a number, or words such as ``"at least 0.93"``.
    ok
        Whether the requirement is met.
    """

    name: str
    value: float | str
    limit: float | str
    ok: bool

    def to_dict(self) -> Mapping[str, object]:
        """Return the fields by name, for JSON."""
        return asdict(self)
