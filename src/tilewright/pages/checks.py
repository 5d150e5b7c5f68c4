"""`Check`: something promised, and what was measured."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

__all__ = ["Check"]


@dataclass(frozen=True)
class Check:
    """One promise and its outcome.

    Parameters
    ----------
    name
        What is compared, in words: ``"MRR, share of dense"``.
    value
        What was measured.
    limit
        What was promised: a number or words such as ``"at least 0.93"``.
    ok
        Whether the promise holds.
    """

    name: str
    value: float | str
    limit: float | str
    ok: bool

    def to_dict(self) -> Mapping[str, object]:
        """Return the fields by name, for JSON."""
        return asdict(self)
