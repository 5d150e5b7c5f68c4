"""What every part of a recipe shares: strict fields, and the text of a pattern."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ...errors import PatternError
from ...patterns import parse

__all__ = ["Part", "PatternText", "Share"]


class Part(BaseModel):
    """A group of keys: no key beside its own, no change once read, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _pattern(text: str) -> str:
    try:
        return str(parse(text))
    except PatternError as error:
        raise ValueError(str(error)) from None


PatternText = Annotated[str, AfterValidator(_pattern), Field(min_length=2)]
"""Text of a pattern, stored the way the pattern prints itself."""

Share = Annotated[float, Field(gt=0, le=1)]
"""Above 0, at most 1."""
