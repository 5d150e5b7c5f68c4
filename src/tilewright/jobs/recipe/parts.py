"""Building blocks of recipe sections: the strict base class, and common field types."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ...errors import PatternError
from ...patterns import parse

__all__ = ["Part", "PatternText", "Share"]


class Part(BaseModel):
    """A group of keys: immutable, with no unknown keys, NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _pattern(text: str) -> str:
    try:
        return str(parse(text))
    except PatternError as error:
        raise ValueError(str(error)) from None


PatternText = Annotated[str, AfterValidator(_pattern), Field(min_length=2)]
"""Text of a pattern, normalised to the form that the pattern prints."""

Share = Annotated[float, Field(gt=0, le=1)]
"""A number above 0 and at most 1."""
