"""The exceptions this package raises. Messages say what was given, what was expected, where, and what to do next.

::

    TilewrightError
    ├── ArgumentError      (ValueError)    an argument outside what a function accepts
    ├── PatternError       (ValueError)    a pattern that does not exist, or a weight that cannot take it
    ├── TargetError        (ValueError)    a layer name or expression that matches nothing
    ├── RecipeError        (ValueError)    a recipe file with a wrong key or value
    ├── FormatError        (ValueError)    a packed weight or a file that violates the format
    ├── NotSupportedError  (RuntimeError)  something that is not available on this machine or in this build
    └── CheckFailed        (RuntimeError)  a check the caller asked for, and that failed

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
    """Base class of the exceptions this package raises."""


class ArgumentError(TilewrightError, ValueError):
    """An argument is outside what the function accepts."""


class PatternError(TilewrightError, ValueError):
    """A pattern is malformed, or a weight cannot take it."""


class TargetError(TilewrightError, ValueError):
    """A layer name or expression matches nothing in the model."""


class RecipeError(TilewrightError, ValueError):
    """A recipe has an unknown key, an invalid value, or stages that contradict each other."""


class FormatError(TilewrightError, ValueError):
    """A packed weight or a checkpoint violates the format."""


class NotSupportedError(TilewrightError, RuntimeError):
    """What was asked for is not available on this machine or in this build."""


class CheckFailed(TilewrightError, RuntimeError):  # noqa: N818 (a verdict, not a fault)
    """A check the caller asked for failed."""


_QUOTED = 80
"""Maximum length of a user's value in a message, in characters."""


def quoted(value: object) -> str:
    r"""Return the `repr` of a value for use in a message: one line, no control characters, truncated if long.

    Examples
    --------
    >>> quoted("mis\ttyped"), len(quoted("x" * 1_000_000))
    ("'mis\\ttyped'", 80)
    """
    try:
        text = repr(value[:_QUOTED] if isinstance(value, str | bytes) else value)
    except (RecursionError, ValueError):  # nested too deeply, or an integer with more digits than Python converts
        text = f"a {type(value).__name__}"
    short = len(text) <= _QUOTED and (not isinstance(value, str | bytes) or len(value) <= _QUOTED)
    return text if short else f"{text[: _QUOTED - 3]}..."


def brief(error: BaseException) -> str:
    r"""Return another library's error message for use in ours: one line, no control characters, truncated if long.

    Examples
    --------
    >>> brief(ValueError("first line\nsecond line"))
    'first line second line'
    """
    text = " ".join(str(error).split()) or type(error).__name__
    text = "".join(character if character.isprintable() else "?" for character in text[:1000])
    return text if len(text) <= 300 else f"{text[:297]}..."


def unknown(what: str, value: object, choices: Collection[str], expected: str = "") -> str:
    """Return the message for a word that is not one of the accepted choices, suggesting the closest one.

    Parameters
    ----------
    what
        What the word names, such as ``"score"``.
    value
        The word.
    choices
        All accepted words.
    expected
        Description of what is expected, for when a list of the choices would be too long. Default: the list.

    Examples
    --------
    >>> unknown("score", "magnitud", ["magnitude", "taylor"])
    "unknown score 'magnitud'; did you mean 'magnitude'? Expected one of 'magnitude', 'taylor'"
    """
    near = difflib.get_close_matches(str(value)[:_QUOTED].lower(), choices, 1)
    expected = expected or f"one of {', '.join(map(repr, choices))}"
    return f"unknown {what} {quoted(value)}; {f'did you mean {near[0]!r}? E' if near else 'e'}xpected {expected}"
