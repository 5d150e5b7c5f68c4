"""Files that tasks read, without torch: pairs of text and label, folders of classes, plain text; and how items are split."""

import csv
import hashlib
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from ...errors import ArgumentError, unknown

__all__ = ["Parts", "digest_of", "images_in", "number_of", "rows_of", "split", "text_of"]

_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".gif", ".webp", ".tif", ".tiff")
_TEXTS = (".txt", ".md", ".rst", ".text")

Item = TypeVar("Item")


@dataclass(frozen=True)
class Parts(Generic[Item]):
    """Items in three parts without overlap: to learn from, to choose by, to be judged by."""

    train: tuple[Item, ...]
    validation: tuple[Item, ...]
    test: tuple[Item, ...]


def split(items: Sequence[Item], validation: int, test: int, seed: int, what: str) -> Parts[Item]:
    """Return the items shuffled and in parts of the sizes asked for; what is left is to learn from.

    Raises
    ------
    ArgumentError
        If too few are left: at least as many as both others would need a larger file.
    """
    shuffled = list(items)
    random.Random(seed).shuffle(shuffled)
    if len(shuffled) <= validation + test:
        raise ArgumentError(
            f"{what} holds {len(shuffled)} distinct items, and {test} to be judged by, {validation} to choose by and some to learn from are "
            "needed; give more data, or lower data.test and data.validation"
        )
    cut = test + validation
    return Parts(tuple(shuffled[cut:]), tuple(shuffled[test:cut]), tuple(shuffled[:test]))


def rows_of(path: Path, columns: Iterable[str]) -> list[dict[str, Any]]:
    """Return the rows of a CSV file (``.csv``, or ``.tsv`` with tabs) or of JSON lines, with the columns asked for.

    Raises
    ------
    ArgumentError
        If the file cannot be read or has no such column; the message names the line.
    """
    columns = list(columns)
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"data.file {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        reader = csv.DictReader(text.splitlines(keepends=True), delimiter="\t" if suffix == ".tsv" else ",")
        _require(columns, reader.fieldnames or (), f"{path}, line 1")
        rows: list[dict[str, Any]] = [{name: row[name] for name in columns} for row in reader]
    elif suffix in (".jsonl", ".ndjson", ".json"):
        rows = [_json_row(line, columns, f"{path}, line {n}") for n, line in enumerate(text.splitlines(), 1) if line]
    else:
        raise ArgumentError(f"data.file {path} ends in {suffix or 'nothing'}; expected .csv, .tsv or .jsonl")
    for n, row in enumerate(rows, 1):
        if any(value is None or value == "" for value in row.values()):
            raise ArgumentError(
                f"{path}, row {n} lacks a value in one of {', '.join(columns)}; fill it in or leave the row out"
            )
    return rows


def _json_row(line: str, columns: list[str], where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ArgumentError(f"{where} is not JSON: {error}") from None
    if not isinstance(row, dict):
        raise ArgumentError(f"{where} holds {type(row).__name__}; expected an object with {', '.join(columns)}")
    _require(columns, row, where)
    return {name: row[name] for name in columns}


def _require(columns: Iterable[str], present: Iterable[str], where: str) -> None:
    names = list(present)
    for column in columns:
        if column not in names:
            raise ArgumentError(f"{where}: {unknown('column', column, names)}")


def number_of(value: Any, where: str) -> float:
    """Return a label as a number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ArgumentError(f"{where} has the label {value!r}; a regression needs numbers") from None


def images_in(folder: Path) -> dict[str, list[Path]]:
    """Return the images of each class: a folder of folders, one a class, named after it.

    Raises
    ------
    ArgumentError
        If there are no two such folders with images.
    """
    if not folder.is_dir():
        raise ArgumentError(f"data.folder {folder} is no folder; name one that holds a folder of images for each class")
    found = {
        place.name: sorted(file for file in place.iterdir() if file.suffix.lower() in _IMAGES)
        for place in sorted(folder.iterdir())
        if place.is_dir()
    }
    classes = {name: files for name, files in found.items() if files}
    if len(classes) < 2:
        raise ArgumentError(
            f"data.folder {folder} holds images in {len(classes)} folders; expected one folder a class, at least two, with "
            f"{', '.join(_IMAGES[:3])} and the like"
        )
    return classes


def text_of(path: Path) -> str:
    """Return the text of a file, or of all text files of a folder, one after another.

    Raises
    ------
    ArgumentError
        If there is none, or it is not UTF-8.
    """
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix.lower() in _TEXTS)
    if not files:
        raise ArgumentError(f"data.file {path} is neither a file nor a folder with {', '.join(_TEXTS)} files")
    try:
        return "\n\n".join(file.read_text("utf-8") for file in files)
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"data.file {path} cannot be read as text: {error}") from None


def digest_of(parts: Parts[Any]) -> str:
    """Return a SHA-256 over all items in their parts."""
    body: Mapping[str, Any] = {"train": parts.train, "validation": parts.validation, "test": parts.test}
    return hashlib.sha256(json.dumps(body, default=str).encode()).hexdigest()
