"""The report: one self-contained HTML file that opens offline and makes no network requests.

Charts are HTML and inline SVG from the templates next to this module; `docs/decisions/002-report-charts.md` says why. A content
security policy in the page forbids every request and every script except the page's own, so a hostile layer name is harmless even
if escaping failed.
"""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..records import Record, write_whole
from . import listings, sections
from .about import About
from .checks import Check
from .headline import figures, headline
from .measured import unchecked
from .page import render
from .pictures import MaskPicture, picture_of
from .quality import items_of, meaning_of, quality
from .wording import duration, metric_title, number, pattern_words

__all__ = ["render_report", "write_report"]

_MOST_PICTURES = 12
_MACHINE_TITLES = {
    "cpu": "CPU",
    "usable_threads": "usable threads",
    "isa": "instruction sets",
    "memory_gib": "memory, GiB",
    "os": "system",
}
_SECTIONS = (
    ("checks", "checks", "Requirements"),
    ("quality", "quality", "Quality"),
    ("recovery", "recoveries", "Recovery"),
    ("latency", "latencies", "Speed"),
    ("size", "sizes", "Size"),
    ("layers", "groups", "Layers"),
    ("masks", "pictures", "Masks"),
    ("kernels", "kernels", "Kernels"),
    ("use", "use", "Use it"),
    ("environment", None, "Where the numbers come from"),
)
"""For each section: its name, the value without which it is omitted, and its title in the table of contents."""


def render_report(
    records: Sequence[Record],
    *,
    title: str,
    masks: Mapping[str, NDArray[np.bool_]] | None = None,
    recipe: Mapping[str, object] | None = None,
    summary: str | None = None,
    checks: Sequence[Check] = (),
    about: About | None = None,
) -> str:
    """Render the report of a job as HTML.

    Parameters
    ----------
    records
        Measurements of one run on one machine. Sections without records are omitted.
    title
        Title of the page.
    masks
        Boolean masks ``[N, K]`` by weight name, True where kept. At most twelve, evenly selected, are drawn.
    recipe
        The resolved recipe, printed as YAML.
    summary
        A paragraph below the headline. The headline is generated from the records; if they say too little, the summary replaces it.
    checks
        Requirements and their outcomes.
    about
        What was done, to which model, and how to use the result.

    Returns
    -------
    str
        A complete HTML document.

    Raises
    ------
    ArgumentError
        If a mask is not a boolean matrix.

    Examples
    --------
    >>> page = render_report([Record.measure("size", "disk", 90e6, "bytes", inputs={"model": "dense"})], title="A model")
    >>> page.startswith("<!doctype html>")
    True
    """
    about = about or About()
    sentence = headline(records)
    latencies = [sections.latency(records, name) for name in _latency_names(records)]
    values: dict[str, Any] = {
        "checks": [(check, number(check.value), number(check.limit)) for check in checks],
        "quality": quality(records),
        "latencies": [chart for chart in latencies if chart is not None],
        "sizes": sections.sizes(records),
        "recoveries": sections.recovery(records),
        "groups": listings.layer_groups(records),
        "pictures": _pictures(masks or {}),
        "kernels": sections.kernels(records),
        "use": about.use,
    }
    present = [(name, title) for name, key, title in _SECTIONS if key is None or values[key]]
    return render(
        "report.html.j2",
        **values,
        title=title,
        headline=sentence or summary,
        summary=summary if sentence else None,
        facts=_facts(about, records),
        figures=figures(records),
        contents=present,
        failed=sum(not check.ok for check in checks),
        layers=listings.layers(records),
        mask_count=len(masks or {}),
        unchecked=unchecked(records),
        machines=[_titled(machine) for machine in _distinct([dict(r.machine) for r in records])],
        versions=_distinct([dict(r.versions) for r in records]),
        revisions=list(dict.fromkeys(r.revision or "not from a checkout" for r in records)),
        seeds=sorted({r.seed for r in records if r.seed is not None}),
        recipe=_yaml(recipe) if recipe else None,
        records=listings.all_records(records),
    )


def write_report(
    path: str | os.PathLike[str],
    records: Sequence[Record],
    *,
    title: str,
    masks: Mapping[str, NDArray[np.bool_]] | None = None,
    recipe: Mapping[str, object] | None = None,
    summary: str | None = None,
    checks: Sequence[Check] = (),
    about: About | None = None,
) -> None:
    """Write the page of `render_report` to a file, atomically.

    Parameters
    ----------
    path
        File to write.
    records, title, masks, recipe, summary, checks, about
        As for `render_report`.

    Raises
    ------
    OSError
        If the file cannot be written; an existing file of that name is then left unchanged.
    """
    page = render_report(records, title=title, masks=masks, recipe=recipe, summary=summary, checks=checks, about=about)
    write_whole(path, page)


def _facts(about: About, records: Sequence[Record]) -> dict[str, str]:
    """Return the facts at the top of the report, by title, in reading order."""
    judged = next((r for r in records if r.kind == "quality"), None)
    over = f", over {items}" if judged and (items := items_of(judged)) else ""
    meaning = f"{metric_title(judged.name)}{over}. {meaning_of(judged)}" if judged else ""
    patterns = dict.fromkeys(group.pattern for group in listings.layer_groups(records) if (group.density or 1) < 1)
    facts = {
        "Model": about.model,
        "Pattern": "; ".join(pattern_words(pattern) for pattern in patterns),
        "Density": listings.pruned_density(records),
        "Task": about.task,
        "Measure": meaning,
        "Date": about.date,
        "Duration": "" if about.seconds is None else duration(about.seconds),
        "Command": about.command,
    }
    return {title: text for title, text in facts.items() if text}


def _latency_names(records: Sequence[Record]) -> list[str]:
    """Return the names of latency records: the whole model first, then its linear layers, then anything else."""
    return list(dict.fromkeys(["encode", "linear", *(r.name for r in records if r.kind == "latency")]))


def _pictures(masks: Mapping[str, NDArray[np.bool_]]) -> list[MaskPicture]:
    names = list(masks)
    if len(names) > _MOST_PICTURES:
        last = len(names) - 1
        names = [names[round(i * last / (_MOST_PICTURES - 1))] for i in range(_MOST_PICTURES)]
    return [picture_of(name, masks[name]) for name in names]


def _distinct(values: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    return list({json.dumps(v, sort_keys=True): v for v in values}.values())


def _titled(machine: dict[str, object]) -> dict[str, str]:
    """Return the facts of a machine with readable names and values."""
    return {
        _MACHINE_TITLES.get(key, key): ", ".join(map(str, value)) if isinstance(value, list) else number(value)
        for key, value in machine.items()
    }


def _yaml(recipe: Mapping[str, object]) -> str:
    import yaml

    plain = json.loads(json.dumps(dict(recipe), default=str))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)
