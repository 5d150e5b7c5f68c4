"""Turn the validator's findings about a recipe into sentences that name the key."""

import difflib
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from ...errors import quoted, unknown
from .data import TASKS
from .recover import METHODS

__all__ = ["fault_text"]


def fault_text(fault: Any, root: type[BaseModel]) -> str:
    """Return one pydantic error as a sentence.

    Parameters
    ----------
    fault
        An item of ``ValidationError.errors()``.
    root
        The model class that was validated.
    """
    keys = _written(fault["loc"])
    place = _cut(".".join(map(_word, keys)))
    if fault["type"] == "extra_forbidden":
        if place in _RENAMED:
            return f"unknown key {place}; it is now called {_RENAMED[place]}"
        return f"unknown key {place}; {_nearest(fault['loc'], root)}"
    if fault["type"] == "missing":
        return f"{place} is missing"
    if fault["type"] == "union_tag_invalid":
        return f"{place}.method: {unknown('method', fault['ctx']['tag'], list(METHODS))}"
    if fault["type"] == "literal_error" and isinstance(fault["input"], str):
        choices = re.findall(r"'([^']*)'", fault["ctx"]["expected"])
        word = str(keys[-1]) if isinstance(keys[-1], str) else str(keys[-2]).removesuffix("s")
        return f"{place}: {unknown(word, fault['input'], choices)}"
    text = str(fault["msg"]).removeprefix("Value error, ")
    if not place:  # contradictions between sections name their keys themselves
        return text
    if fault["type"] == "value_error" and isinstance(fault["input"], dict | BaseModel):
        return f"{place}: {text}"
    return f"{place} is {quoted(fault['input'])}: {_cut(text[0].lower() + text[1:])}"


def _word(key: int | str) -> str:
    """Return a key as written if it is printable, else quoted and escaped."""
    return key if isinstance(key, str) and key.isprintable() else quoted(key)


def _cut(text: str) -> str:
    return text if len(text) <= 400 else f"{text[:397]}..."


_RENAMED = {
    "require.mrr": "require.quality",
    "recover.pick.mrr": "recover.pick.quality",
    "recover.validation": "data.validation",
}


def _written(place: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Drop from a location the union tag (the method or the task), which is not part of the file."""
    tag = place[1] if len(place) > 1 else None
    hidden = (place[0] == "recover" and tag in METHODS) or (place[0] == "data" and tag in TASKS) if place else False
    return place[:1] + place[2:] if hidden else place


def _nearest(place: tuple[int | str, ...], root: type[BaseModel]) -> str:
    part = root
    for step in place[:-1]:
        part = next((kind for name, kind in _inner(part) if name == step), part)
    keys = [name for name, key in part.model_fields.items() if not key.exclude]
    near = difflib.get_close_matches(str(place[-1])[:80], keys, 1)
    return f"did you mean {near[0]}?" if near else f"expected one of {', '.join(keys)}"


def _inner(part: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the sections below a section by key, and the methods and tasks by name."""
    yield from METHODS.items()
    yield from TASKS.items()
    for name, field in part.model_fields.items():
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield name, kind
                break
