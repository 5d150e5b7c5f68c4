"""`explore`: run each design once and collect the results."""

import os
from collections.abc import Iterable, Iterator, Mapping

from ...errors import ArgumentError, TilewrightError
from ...patterns import parse
from ...records import Report
from ..machine.presets import preset
from ..workload import Workload
from .design import Design
from .log import SweepLog
from .trial import MEASURES, Jobs, Result, evaluate

__all__ = ["evaluate", "explore"]


def explore(
    designs: Iterable[Design],
    *,
    out: str | os.PathLike[str] | None = None,
    address: str | None = None,
    quality: Mapping[str, float] | None = None,
) -> Report:
    """Simulate designs at the analytical level and return one row per design.

    Parameters
    ----------
    designs
        The designs, such as those from `grid`.
    out
        A file that results are appended to as they arrive (JSON lines by content hash). Designs that it already holds do
        not run again, whether from an interrupted sweep or from another sweep. Default: results are kept in memory only.
    address
        Address of a Ray cluster, such as ``"127.0.0.1:6379"`` or ``"auto"``; needs ``tilewright[cluster]``. Default: run
        in this process.
    quality
        Score of each pattern, by pattern text or ``"dense"``, such as from `qualities`. Default: none.

    Returns
    -------
    Report
        Rows in the order of the designs: the design, its changed numbers, seconds per batch, samples per second, joules
        per batch, watts, useful share of peak, area relative to the preset (see `area`), quality if known, and in
        ``refused`` the reason if the machine cannot be built or the network does not fit it.

    Raises
    ------
    ArgumentError
        If there is no design.
    NotSupportedError
        If an address is given and Ray is not installed.
    ConnectionError
        If there is no Ray cluster at the address.

    Examples
    --------
    >>> from tilewright.hardware.explore import grid, pareto
    >>> report = explore(grid("s4", "resnet50", patterns=[None, "bank64@4x"], vary={"clock": [4e8, 8e8]}))
    >>> [(row["pattern"], row["clock"]) for row in pareto(report.rows, {"seconds": "min"})]
    [('16:64', 800000000.0)]
    """
    points = list(designs)
    if not points:
        raise ArgumentError("designs is empty; grid(...) makes some")
    log = SweepLog(out)
    refused: dict[int, str] = {}
    keys: dict[int, str] = {}
    for index, design in enumerate(points):
        try:
            keys[index] = design.key()
        except TilewrightError as error:
            refused[index] = str(error)
    jobs = {key: points[index] for index, key in keys.items() if key not in log}
    for key, result in _run(list(jobs.items()), address):
        log.put(key, result)
    columns = list(dict.fromkeys(path for design in points for path, _ in design.changes))
    rows = tuple(
        _row(design, log[keys[i]] if i in keys else {"refused": refused[i]}, columns, quality or {})
        for i, design in enumerate(points)
    )
    summary: dict[str, object] = {
        "designs": len(points),
        "run now": len(jobs),
        "known before": len(set(keys.values())) - len(jobs),
        "refused": sum(bool(row["refused"]) for row in rows),
    }
    return Report("explore", rows, summary)


def _run(jobs: Jobs, address: str | None) -> Iterator[tuple[str, Result]]:
    if address is not None and jobs:
        from .cluster import run

        yield from run(jobs, address)
    else:
        for key, design in jobs:
            yield key, evaluate(design)


def _row(design: Design, result: Result, columns: list[str], quality: Mapping[str, float]) -> dict[str, object]:
    pattern = "dense" if design.pattern is None else parse(design.pattern).canonical
    changed, known = dict(design.changes), dict(preset(design.arch).quantities())
    numbers = {path: changed.get(path, float(known[path]) if path in known else None) for path in columns}
    steps = design.selectors
    return {
        "accelerator": design.arch,
        "network": design.network.name if isinstance(design.network, Workload) else design.network,
        "pattern": pattern,
        "dtype": design.dtype or preset(design.arch).types[0],
        "batch": design.batch,
        "selectors": None if steps is None else " ".join(f"{n}:{m}" for n, m in steps) or "none",
        **numbers,
        **{name: result.get(name) for name in MEASURES},
        "quality": quality.get(pattern) if "refused" not in result else None,
        "refused": result.get("refused", ""),
    }
