"""Map the labels in a file to the labels of a model, without torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ArgumentError, unknown
from ..recipe.data import ClassificationData, RegressionData
from ..sources import Source
from .files import Parts, number_of, rows_of, split

__all__ = ["Row", "class_of", "classes_of", "labelled"]


@dataclass(frozen=True)
class Row:
    """One item: one text or two, and the label as the model numbers it."""

    texts: tuple[str, ...]
    label: float


def labelled(data: ClassificationData | RegressionData, source: Source) -> Parts[Row]:
    """Read and split the rows of a task's file, with labels checked against the model's configuration.

    Raises
    ------
    ArgumentError
        If the file, a column or a label does not match the recipe and the model.
    """
    names = [data.text, *([data.second] if data.second else [])]
    rows = []
    for n, row in enumerate(rows_of(Path(data.file), (*names, data.label)), 1):
        where = f"{data.file}, row {n}"
        regression = isinstance(data, RegressionData)
        label = number_of(row[data.label], where) if regression else class_of(row[data.label], source.config, where)
        rows.append(Row(tuple(str(row[name]) for name in names), label))
    # Duplicate texts could end up in both the training and the test part.
    distinct = list({row.texts: row for row in rows}.values())
    return split(distinct, data.validation, data.test, data.seed, data.file)


def classes_of(config: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of every class by name, from a transformers configuration."""
    names = config.get("id2label")
    if isinstance(names, Mapping):
        return {str(name): int(number) for number, name in names.items()}
    return {f"LABEL_{number}": number for number in range(int(config.get("num_labels", 2)))}


def class_of(label: Any, config: Mapping[str, Any], where: str) -> int:
    """Return the number of a class given by name or by number.

    Raises
    ------
    ArgumentError
        If the model has no such class.
    """
    classes = classes_of(config)
    if str(label) in classes:
        return classes[str(label)]
    text = str(label).removesuffix(".0")
    if text.isdecimal() and int(text) in classes.values():
        return int(text)
    raise ArgumentError(f"{where}: {unknown('class', str(label), list(classes))}, or its number")
