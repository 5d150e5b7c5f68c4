"""Strict JSON: UTF-8, no repeated keys, no NaN or infinities."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from ..errors import FormatError
from .bits import DAMAGED

__all__ = ["LONGEST_TEXT", "parse_object", "show"]

LONGEST_TEXT = 32 << 20
"""Maximum length in bytes of a header or JSON file: parsing takes several times that much memory."""

_SHOWN = 80
"""Maximum length of a foreign value in a message, in characters."""


def show(value: object) -> str:
    """Return a value from a file for use in a message: ASCII only and short."""
    try:
        text = ascii(value)
    except (RecursionError, ValueError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def parse_object(text: bytes, where: str) -> dict[str, Any]:
    """Return the JSON object in the bytes.

    Raises
    ------
    FormatError
        If they are longer than `LONGEST_TEXT`, are not UTF-8, JSON and an object, repeat a key, or use NaN or Infinity.
    """
    if len(text) > LONGEST_TEXT:
        raise FormatError(f"{where}: {len(text)} bytes of JSON; at most {LONGEST_TEXT} are read; {DAMAGED}")
    try:
        value = json.loads(
            text.decode("utf-8"), object_pairs_hook=_without_repeats(where), parse_constant=_no_constant(where)
        )
    except FormatError:
        raise
    except RecursionError:
        raise FormatError(f"{where}: the JSON is nested too deeply to read; {DAMAGED}") from None
    except ValueError as error:
        raise FormatError(f"{where}: not valid UTF-8 JSON ({show(str(error))}); {DAMAGED}") from None
    if not isinstance(value, dict):
        raise FormatError(f"{where}: expected a JSON object, got a {type(value).__name__}; {DAMAGED}")
    return value


def _without_repeats(where: str) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise FormatError(f"{where}: the key {show(twice)} appears twice in one JSON object; {DAMAGED}")
        return found

    return build


def _no_constant(where: str) -> Callable[[str], Any]:
    def refuse(name: str) -> Any:
        raise FormatError(f"{where}: {name} is not JSON; write the number as a string or leave it out")

    return refuse
