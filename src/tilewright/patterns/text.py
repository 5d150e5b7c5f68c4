"""`parse`: patterns from their text form."""

import re
from collections.abc import Callable

from ..errors import PatternError, unknown
from .values import (
    NM,
    Banked,
    Block,
    Pattern,
    TileElementWise,
    TileVectorWise,
    TileWise,
    Unstructured,
    fraction_of,
)

__all__ = ["parse"]

_PERCENT = r"(\d{1,3}(?:\.\d+)?)%"
_INT = r"(\d{1,9})"

_FORMS: list[tuple[re.Pattern[str], Callable[..., Pattern]]] = [
    (
        re.compile(rf"{_INT}:{_INT}(?:x{_INT})?(t)?"),
        lambda n, m, tile, t: NM(int(n), int(m), int(tile or 1), t is not None),
    ),
    (re.compile(rf"bank64@{_INT}x"), lambda ratio: Banked(int(ratio))),
    (re.compile(rf"tw{_INT}@{_PERCENT}"), lambda tile, s: TileWise(int(tile), fraction_of(s))),
    (
        re.compile(rf"tew{_INT}@{_PERCENT}\+{_PERCENT}"),
        lambda tile, s, extra: TileElementWise(int(tile), fraction_of(s), fraction_of(extra)),
    ),
    (
        re.compile(rf"tvw{_INT}@{_PERCENT}(?::{_INT}:{_INT})?"),
        lambda tile, s, n, m: TileVectorWise(int(tile), fraction_of(s), int(n or 2), int(m or 4)),
    ),
    (
        re.compile(rf"block{_INT}x{_INT}@{_PERCENT}"),
        lambda rows, cols, s: Block(int(rows), int(cols), fraction_of(s)),
    ),
    (re.compile(rf"any@{_PERCENT}"), lambda s: Unstructured(fraction_of(s))),
]

_EXAMPLES = ("2:4", "2:4x8", "2:4t", "bank64@16x", "tw16@75%", "tew64@75%+5%", "tvw64@75%", "block32x32@75%", "any@90%")
"""One example of each form."""


def parse(text: str) -> Pattern:
    """Return the pattern written as a text; ``parse(str(p)) == p`` for every pattern.

    Parameters
    ----------
    text
        A text of one of the forms ``2:4``, ``1:8``, ``2:4x8`` (tile 8), ``2:4t`` (transposable), ``bank64@16x``, ``tw16@75%``,
        ``tew64@75%+5%``, ``tvw64@75%``, ``block32x32@75%`` or ``any@90%``. Percentages are sparsity: the part that is pruned.

    Raises
    ------
    PatternError
        If the text has none of these forms, or its numbers contradict each other.

    Examples
    --------
    >>> parse("tw16@75%")
    TileWise(tile=16, sparsity=0.75)
    """
    for form, build in _FORMS:
        match = form.fullmatch(text.strip()) if isinstance(text, str) else None
        if match:
            return build(*match.groups())
    expected = f"one of the forms {', '.join(_EXAMPLES)} (percentages are sparsity, the part that is pruned)"
    raise PatternError(unknown("pattern", text, _EXAMPLES, expected))
