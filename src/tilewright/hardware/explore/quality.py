"""`qualities`: the accuracy that each pattern reached, from records of real runs."""

import json
import os
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...errors import ArgumentError, FormatError
from ...patterns import parse

__all__ = ["qualities"]

_DENSE = "dense"


def qualities(
    files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    name: str,
    where: Mapping[str, object] | None = None,
) -> dict[str, float]:
    """Return the score of each pattern, by pattern text or ``"dense"``, for `explore`.

    The pattern of a record is its input ``pattern``, or else the one pattern that all layers in its file have.

    Parameters
    ----------
    files
        One or several files of records (JSON lines; docs/reference/records.md).
    name
        Name of the records to read, such as ``"mrr"`` or ``"accuracy"``.
    where
        Inputs that a record must have, such as ``{"model": "packed"}``. Records whose ``model``, ``method`` or
        ``pattern`` is dense count as ``"dense"`` whatever is required of these three. Default: all records of that name.

    Returns
    -------
    dict
        The median score of each pattern. Scores belong to the model and data of the records: for another network they
        suggest an order of the patterns, not a prediction.

    Raises
    ------
    ArgumentError
        If no record matches, or the layers of a file have several patterns.
    FormatError
        If a file does not hold records.

    Examples
    --------
    >>> qualities("benchmarks/records/minilm-half.jsonl", "mrr", {"model": "packed"})  # doctest: +SKIP
    {'dense': 0.486, '32:64x4': 0.463}
    """
    paths = [files] if isinstance(files, str | os.PathLike) else list(files)
    scores: dict[str, list[float]] = {}
    for path in paths:
        records = _records(Path(path))
        for record in records:
            pattern = (
                _pattern(record, records, path) if record["name"] == name and _meant(record, where or {}) else None
            )
            if pattern is not None:
                scores.setdefault(pattern, []).append(float(record["median"]))
    if not scores:
        inputs = f" with {', '.join(f'{key}={value}' for key, value in where.items())}" if where else ""
        raise ArgumentError(f"no record named {name!r}{inputs} in {', '.join(map(str, paths))}")
    return {pattern: statistics.median(values) for pattern, values in scores.items()}


def _records(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text().split("\n")[:-1]  # drops an incomplete last line
    try:
        records = [json.loads(line) for line in lines if line.strip()]
        if any(not {"kind", "name", "inputs", "median"} <= set(record) for record in records):
            raise ValueError("a line lacks kind, name, inputs or median")
    except (ValueError, TypeError) as error:
        raise FormatError(f"{path} is not a file of records: {error}") from None
    return records


def _is_dense(record: Mapping[str, Any]) -> bool:
    return any(record["inputs"].get(key) == _DENSE for key in ("model", "method", "pattern"))


def _meant(record: Mapping[str, Any], where: Mapping[str, object]) -> bool:
    spared = ("model", "method", "pattern") if _is_dense(record) else ()
    return all(record["inputs"].get(key) == value for key, value in where.items() if key not in spared)


def _pattern(record: Mapping[str, Any], records: list[dict[str, Any]], path: object) -> str:
    if _is_dense(record):
        return _DENSE
    if "pattern" in record["inputs"]:
        return parse(str(record["inputs"]["pattern"])).canonical
    layers = {str(r["inputs"].get("pattern") or "") for r in records if r["kind"] == "layer"} - {""}
    if len(layers) != 1:
        contents = f"layers of {len(layers)} patterns" if layers else "no layers"
        raise ArgumentError(f"{path} does not say which pattern {record['name']} belongs to: it has {contents}")
    return parse(layers.pop()).canonical
