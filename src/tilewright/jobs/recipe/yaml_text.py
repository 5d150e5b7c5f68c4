"""YAML as recipes may use it: plain keys and values, each key once, nothing that a short file could make large.

What a file says is looked at token by token before anything is built from it, so that neither depth nor references can exhaust
time, memory or the interpreter's stack.
"""

import re
from collections.abc import Hashable
from typing import Any

import yaml

from ...errors import RecipeError, quoted

__all__ = ["parse_yaml"]

LARGEST = 1 << 20
"""Bytes of the largest recipe; the longest of the examples has about 2,000."""

_SURROGATE = re.compile("[\ud800-\udfff]")

DEEPEST = 16
"""Levels of keys and lists inside each other; a recipe needs 4."""


class _Loader(yaml.SafeLoader):
    """The safe loader, which also refuses a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return a mapping; raises `RecipeError` for a key that is there already, of which YAML would keep the last."""
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise RecipeError(f"{_place(key_node)}: the key {quoted(key)} is not a word; put quotes around it")
            if key in seen:
                raise RecipeError(f"{_place(key_node)}: the key {quoted(key)} stands twice; leave one of them")
            seen.add(key)
        return super().construct_mapping(node, deep)


def _plain_forms() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """Return what an unquoted word may stand for: true and false, null and numbers; no dates, and 2:4 is no number of base 60."""
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
    """Return what a YAML file says.

    Raises
    ------
    RecipeError
        If it is not YAML in UTF-8, repeats a key, uses references (``&``, ``*``) or tags (``!``), or is too long or too deep. The
        message has the line.
    """
    if len(data) > LARGEST:
        raise RecipeError(f"{len(data):,} bytes, and a recipe has at most {LARGEST:,}")
    try:
        text = data.decode("utf-8")
        _check_events(text)
        return yaml.load(text, Loader=_Loader)
    except RecipeError:
        raise
    except (yaml.YAMLError, ValueError) as error:  # ValueError: bytes that are no text, numbers with too many digits
        raise RecipeError(f"not YAML: {_cut(' '.join(str(error).split()))}") from None


def _check_events(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise RecipeError(f"{_place(event)}: references (& and *) are not read; write the value where it is meant")
        if getattr(event, "tag", None) is not None:
            raise RecipeError(f"{_place(event)}: tags (such as !!int) are not read; leave them out")
        if isinstance(event, yaml.ScalarEvent) and _SURROGATE.search(event.value):
            raise RecipeError(
                f"{_place(event)}: the text {quoted(event.value)} holds half a character (\\uD800 to \\uDFFF)"
            )
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise RecipeError(f"{_place(event)}: nested more than {DEEPEST} levels deep; a recipe needs four")


def _place(event: Any) -> str:
    return f"line {event.start_mark.line + 1}"


def _cut(text: str) -> str:
    """Shorten what the parser says, which repeats what the file holds."""
    plain = "".join(character if character.isprintable() else "?" for character in text)
    return plain if len(plain) <= 300 else f"{plain[:297]}..."
