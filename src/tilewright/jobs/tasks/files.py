"""Read the files of tasks without torch: labelled texts, folders of images, plain text; and split the items."""

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
    """Items in three disjoint parts: for training, for selection, and for evaluation."""

    train: tuple[Item, ...]
    validation: tuple[Item, ...]
    test: tuple[Item, ...]


def split(items: Sequence[Item], validation: int, test: int, seed: int, what: str) -> Parts[Item]:
    """Shuffle the items and split them; those outside the validation and test parts are for training.

    Parameters
    ----------
    items
        Distinct items.
    validation, test
        Sizes of these parts.
    seed
        Seed of the shuffle.
    what
        Where the items come from, for error messages.

    Raises
    ------
    ArgumentError
        If no items are left for training.
    """
    shuffled = list(items)
    random.Random(seed).shuffle(shuffled)
    if len(shuffled) <= validation + test:
        raise ArgumentError(
            f"{what} has only {len(shuffled)} distinct items, but data.test needs {test}, data.validation needs {validation}, and "
            "training needs at least one; give more data, or lower data.test and data.validation"
        )
    cut = test + validation
    return Parts(tuple(shuffled[cut:]), tuple(shuffled[test:cut]), tuple(shuffled[:test]))


def rows_of(path: Path, columns: Iterable[str]) -> list[dict[str, Any]]:
    """Return the given columns of a CSV file (``.csv``, or ``.tsv`` with tabs) or of JSON lines, row by row.

    Raises
    ------
    ArgumentError
        If the file cannot be read or lacks a column; the message names the line.
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
                f"{path}, row {n} has no value in one of the columns {', '.join(columns)}; fill it in or remove the row"
            )
    return rows


def _json_row(line: str, columns: list[str], where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ArgumentError(f"{where} is not JSON: {error}") from None
    if not isinstance(row, dict):
        raise ArgumentError(f"{where} contains {type(row).__name__}, expected an object with {', '.join(columns)}")
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
        raise ArgumentError(f"{where} has the label {value!r}; labels of a regression must be numbers") from None


def images_in(folder: Path) -> dict[str, list[Path]]:
    """Return the images of each class in a folder that holds one subfolder per class, named after it.

    Raises
    ------
    ArgumentError
        If fewer than two subfolders contain images.
    """
    if not folder.is_dir():
        raise ArgumentError(
            f"data.folder {folder} is not a folder; expected a folder with one subfolder of images per class"
        )
    subfolders = {
        place.name: sorted(file for file in place.iterdir() if file.suffix.lower() in _IMAGES)
        for place in sorted(folder.iterdir())
        if place.is_dir()
    }
    classes = {name: files for name, files in subfolders.items() if files}
    if len(classes) < 2:
        raise ArgumentError(
            f"data.folder {folder} has {len(classes)} subfolders with images; expected at least two, one per class, with files such as "
            f"{', '.join(_IMAGES[:3])}"
        )
    return classes


def text_of(path: Path) -> str:
    """Return the text of a file, or the concatenated text of all text files in a folder.

    Raises
    ------
    ArgumentError
        If there are no text files, or one is not UTF-8.
    """
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix.lower() in _TEXTS)
    if not files:
        raise ArgumentError(f"data.file {path} is neither a file nor a folder with {', '.join(_TEXTS)} files")
    try:
        return "\n\n".join(file.read_text("utf-8") for file in files)
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"data.file {path} cannot be read as UTF-8 text: {error}") from None


def digest_of(parts: Parts[Any]) -> str:
    """Return the SHA-256 of all items and their split."""
    body: Mapping[str, Any] = {"train": parts.train, "validation": parts.validation, "test": parts.test}
    return hashlib.sha256(json.dumps(body, default=str).encode()).hexdigest()
