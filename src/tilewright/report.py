"""`Report`: what the verbs of the public surface return, one row a layer."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Report", "cell"]


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
        return json.dumps(body, default=str)

    def __str__(self) -> str:
        lines = _table(self.rows)
        if lines and self.summary:
            lines.append("")
        lines += [f"{key}: {cell(value)}" for key, value in self.summary.items()]
        return "\n".join(lines)


def cell(value: object) -> str:
    """Return a value as a report prints it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def _table(rows: tuple[Mapping[str, object], ...]) -> list[str]:
    if not rows:
        return []
    table = [list(rows[0]), *([cell(v) for v in row.values()] for row in rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in table]
