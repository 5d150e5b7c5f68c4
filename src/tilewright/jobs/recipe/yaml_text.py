"""The subset of YAML that recipes may use: plain keys and values, no duplicate keys, and nothing that lets a short file expand.

A file is checked event by event before anything is built from it, so that neither nesting nor references can exhaust time, memory
or the interpreter's stack.
"""

import re
from collections.abc import Hashable
from typing import Any

import yaml

from ...errors import RecipeError, quoted

__all__ = ["parse_yaml"]

LARGEST = 1 << 20
"""Maximum size of a recipe, in bytes; the longest example has about 2,000."""

_SURROGATE = re.compile("[\ud800-\udfff]")

DEEPEST = 16
"""Maximum nesting of mappings and lists; a recipe needs 4 levels."""


class _Loader(yaml.SafeLoader):
    """The safe loader, which also refuses duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return a mapping; raise `RecipeError` for a duplicate key, of which YAML would silently keep the last."""
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise RecipeError(f"{_place(key_node)}: key {quoted(key)} is not a string; put it in quotes")
            if key in seen:
                raise RecipeError(f"{_place(key_node)}: duplicate key {quoted(key)}; remove one of them")
            seen.add(key)
        return super().construct_mapping(node, deep)


def _plain_forms() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """Return what an unquoted word may stand for: booleans, null and numbers, but not dates, nor 2:4 as a base-60 number."""
    forms: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items():
        for tag, form in known:
            if tag in (_YAML + "bool", _YAML + "null"):
                forms.setdefault(first, []).append((tag, form))
    for tag, form, firsts in _NUMBERS:
        for first in firsts:
            forms.setdefault(first, []).append((tag, form))
    return forms


_YAML = "tag:yaml.org,2002:"
_NUMBERS = (
    (_YAML + "int", re.compile(r"[-+]?(0b[01_]+|0[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)\Z"), "-+0123456789"),
    (
        _YAML + "float",
        re.compile(r"([-+]?[0-9][0-9_]*\.[0-9_]*|[-+]?\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?\Z"),
        "-+0123456789.",
    ),
    (_YAML + "float", re.compile(r"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z"), "-+."),
)
_Loader.yaml_implicit_resolvers = _plain_forms()


def parse_yaml(data: bytes) -> Any:
    """Return the content of a YAML file.

    Raises
    ------
    RecipeError
        If it is not YAML in UTF-8, repeats a key, uses references (``&``, ``*``) or tags (``!``), or is too long or too deeply nested.
        The message names the line.
    """
    if len(data) > LARGEST:
        raise RecipeError(f"the file is larger than {LARGEST:,} bytes, the maximum for a recipe")
    try:
        text = data.decode("utf-8")
        _check_events(text)
        return yaml.load(text, Loader=_Loader)
    except RecipeError:
        raise
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a number with too many digits
        raise RecipeError(f"not valid YAML: {_cut(' '.join(str(error).split()))}") from None


def _check_events(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise RecipeError(f"{_place(event)}: references (& and *) are not supported; write the value out")
        if getattr(event, "tag", None) is not None:
            raise RecipeError(f"{_place(event)}: tags (such as !!int) are not supported; remove them")
        if isinstance(event, yaml.ScalarEvent) and _SURROGATE.search(event.value):
            raise RecipeError(
                f"{_place(event)}: the text {quoted(event.value)} contains an unpaired surrogate (\\uD800 to \\uDFFF)"
            )
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise RecipeError(f"{_place(event)}: nested more than {DEEPEST} levels deep; a recipe needs only four")


def _place(event: Any) -> str:
    return f"line {event.start_mark.line + 1}"


def _cut(text: str) -> str:
    """Shorten a parser message, which may quote any part of the file."""
    plain = "".join(character if character.isprintable() else "?" for character in text)
    return plain if len(plain) <= 300 else f"{plain[:297]}..."
