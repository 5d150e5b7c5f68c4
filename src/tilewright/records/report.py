"""`Report`: the result of the public functions, one row per layer."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Report", "cell", "json_text", "printable"]

_LONGEST = 400
"""Maximum length of a cell, in characters: a file may contain a layer name of a megabyte, which would pad every row."""


@dataclass(frozen=True)
class Report:
    """One row per layer plus a summary; prints as an aligned table.

    Parameters
    ----------
    kind
        The function that made it, such as ``"sparsify"``, ``"verify"`` or ``"explain"``.
    rows
        One mapping per layer. All rows have the same keys in the same order.
    summary
        Facts about the whole model: totals, the machine, what was skipped and why.
    ok
        False when the function found a problem.

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
    """Return a value as a report prints it: one line, no control characters, truncated if long."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = "" if value is None else str(value)
    return printable(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}...")


def printable(text: str, keep: str = "") -> str:
    """Return a text with non-printable characters replaced by question marks.

    These could move the cursor, reverse the direction of writing or fail to encode.

    Parameters
    ----------
    text
        Text that may come from an untrusted file.
    keep
        Control characters to keep, such as newlines.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() or character in keep else "?" for character in text)


def json_text(body: object) -> str:
    """Return standard JSON, with null in place of NaN and infinities, which JSON cannot represent."""
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
