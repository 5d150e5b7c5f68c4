"""`Report`: what the verbs of the public surface return, one row a layer."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Report", "cell", "json_text", "printable"]

_LONGEST = 400
"""Characters of a cell; a file may give a layer a name of a megabyte, which would pad every row."""


@dataclass(frozen=True)
class Report:
    """One row per layer and a summary; prints as an aligned table.

    Parameters
    ----------
    kind
        The verb that made it: ``"sparsify"``, ``"verify"``, ``"explain"``.
    rows
        One mapping a layer. All rows hold the same keys in the same order.
    summary
        Facts about the whole: totals, the machine, what was skipped and why.
    ok
        False when the verb found something wrong.

    Examples
    --------
    >>> print(Report("verify", ({"layer": "fc", "pattern": "2:4", "holds": True},), {"layers": 1}))
    layer  pattern  holds
    fc     2:4      yes
    <BLANKLINE>
    layers: 1
    """

    kind: str
    rows: tuple[Mapping[str, object], ...]
    summary: Mapping[str, object] = field(default_factory=dict)
    ok: bool = True

    def to_json(self) -> str:
        """Return the report as one JSON object."""
        body = {
            "kind": self.kind,
            "ok": self.ok,
            "summary": dict(self.summary),
            "rows": [dict(r) for r in self.rows],
        }
        return json_text(body)

    def __str__(self) -> str:
        lines = _table(self.rows)
        if lines and self.summary:
            lines.append("")
        lines += [f"{key}: {cell(value)}" for key, value in self.summary.items()]
        return "\n".join(lines)


def cell(value: object) -> str:
    """Return a value as a report prints it: on one line, without control characters, and cut short if it is long."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = "" if value is None else str(value)
    return printable(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}...")


def printable(text: str, keep: str = "") -> str:
    """Return a text with a question mark for everything that could move a cursor, turn writing around or fail to be encoded.

    Parameters
    ----------
    text
        May come from a file that somebody else wrote.
    keep
        Control characters to let through, such as newlines.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() or character in keep else "?" for character in text)


def json_text(body: object) -> str:
    """Return JSON that every reader takes: null in place of NaN and the infinities, which JSON does not have."""
    try:
        return json.dumps(body, default=str, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(json.loads(json.dumps(body, default=str))), allow_nan=False)


def _finite(value: object) -> object:
    match value:
        case dict():
            return {key: _finite(inner) for key, inner in value.items()}
        case list():
            return [_finite(inner) for inner in value]
        case float() if not math.isfinite(value):
            return None
    return value


def _table(rows: tuple[Mapping[str, object], ...]) -> list[str]:
    if not rows:
        return []
    table = [list(rows[0]), *([cell(v) for v in row.values()] for row in rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in table]
