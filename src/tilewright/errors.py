"""The exceptions this package raises; every message says what was given, what was expected, where, and what to do.

::

    TilewrightError
    ├── ArgumentError      (ValueError)    an argument outside what a function takes
    ├── PatternError       (ValueError)    a pattern that does not exist, or a weight that cannot take it
    ├── TargetError        (ValueError)    a layer name or expression that matches nothing
    ├── RecipeError        (ValueError)    a recipe file with a wrong key or value
    ├── FormatError        (ValueError)    a packed weight or a file that breaks the format
    ├── NotSupportedError  (RuntimeError)  asked for something this machine or build does not have
    └── CheckFailed        (RuntimeError)  a check that was asked for came out negative

The command line maps the first five to exit code 2, `NotSupportedError` to 3 and `CheckFailed` to 1.
"""

import difflib
from collections.abc import Collection

__all__ = [
    "ArgumentError",
    "CheckFailed",
    "FormatError",
    "NotSupportedError",
    "PatternError",
    "RecipeError",
    "TargetError",
    "TilewrightError",
    "brief",
    "quoted",
    "unknown",
]


class TilewrightError(Exception):
    """Base of everything this package raises on purpose."""


class ArgumentError(TilewrightError, ValueError):
    """An argument lies outside what the function takes."""


class PatternError(TilewrightError, ValueError):
    """A pattern is malformed, or a weight cannot take it."""


class TargetError(TilewrightError, ValueError):
    """A layer name or expression matches nothing in the model."""


class RecipeError(TilewrightError, ValueError):
    """A recipe has an unknown key, a wrong value, or stages that contradict each other."""


class FormatError(TilewrightError, ValueError):
    """A packed weight or a checkpoint breaks the format."""


class NotSupportedError(TilewrightError, RuntimeError):
    """What was asked for is not available on this machine or in this build."""


class CheckFailed(TilewrightError, RuntimeError):  # noqa: N818 (a verdict, not a fault)
    """A check the caller asked for came out negative."""


_QUOTED = 80
"""Characters of a foreign value that a message repeats."""


def quoted(value: object) -> str:
    r"""Return a value for a message: on one line, without control characters, and cut short if it is long.

    Examples
    --------
    >>> quoted("mis\ttyped"), len(quoted("x" * 1_000_000))
    ("'mis\\ttyped'", 80)
    """
    try:
        text = repr(value[:_QUOTED] if isinstance(value, str | bytes) else value)
    except (RecursionError, ValueError):  # nested without end, or a number with more digits than Python writes
        text = f"a {type(value).__name__}"
    short = len(text) <= _QUOTED and (not isinstance(value, str | bytes) or len(value) <= _QUOTED)
    return text if short else f"{text[: _QUOTED - 3]}..."


def brief(error: BaseException) -> str:
    r"""Return what another library says, for a sentence of ours: on one line, without control characters, and cut short.

    Examples
    --------
    >>> brief(ValueError("first line\nsecond line"))
    'first line second line'
    """
    text = " ".join(str(error).split()) or type(error).__name__
    text = "".join(character if character.isprintable() else "?" for character in text[:1000])
    return text if len(text) <= 300 else f"{text[:297]}..."


def unknown(what: str, value: object, choices: Collection[str], expected: str = "") -> str:
    """Return the sentence about a word that is not one of those expected, with the nearest of them.

    Parameters
    ----------
    what
        What the word names, such as ``"score"``.
    value
        The word.
    choices
        Every word that would do.
    expected
        What is expected, in words, where a list of the choices would be long. Default: the list.

    Examples
    --------
    >>> unknown("score", "magnitud", ["magnitude", "taylor"])
    "unknown score 'magnitud'; did you mean 'magnitude'? Expected one of 'magnitude', 'taylor'"
    """
    near = difflib.get_close_matches(str(value)[:_QUOTED].lower(), choices, 1)
    expected = expected or f"one of {', '.join(map(repr, choices))}"
    return f"unknown {what} {quoted(value)}; {f'did you mean {near[0]!r}? E' if near else 'e'}xpected {expected}"
