"""What a block-wise run keeps on disk, so that it goes on where it was cut short."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ...errors import ArgumentError, FormatError
from ...records import Report, replacing, write_whole

__all__ = ["BlockLog"]


class BlockLog:
    """What is done, in ``progress.json``, and the batches of the block that is next.

    Parameters
    ----------
    folder
        Made if missing.
    key
        What makes two runs the same, as JSON.

    Notes
    -----
    Files arrive under their names complete: batches first, then the progress that counts on them, then the batches before go.
    """

    def __init__(self, folder: Path, key: dict[str, Any]) -> None:
        self._folder, self._key = folder, key
        self._rows: list[dict[str, Any]] = []
        self.done = 0
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "progress.json"
        if path.exists():
            self._read(path)

    def batches(self, index: int) -> list[Any]:
        """Return the batches of a block."""
        path = self._file(index)
        try:
            found: list[Any] = torch.load(path, weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged file
            raise FormatError(
                f"{path} holds the batches of the next block and cannot be read: {error}; remove the folder and begin again"
            ) from error
        return found

    def finish(self, index: int, name: str, report: Report, batches: list[Any]) -> None:
        """Note that a block is saved."""
        if index + 1 < len(self._key["blocks"]):
            with replacing(self._file(index + 1)) as file:
                torch.save(batches, file)
        self._rows += [{**row, "name": f"{name}.{row['name']}"} for row in report.rows]
        self.done = index + 1
        body = {"key": self._key, "done": self.done, "rows": self._rows}
        write_whole(self._folder / "progress.json", json.dumps(body))
        self._file(index).unlink(missing_ok=True)

    def report(self, score: str, update: Any) -> Report:
        """Return the rows of all blocks."""
        total = sum(_size(row) for row in self._rows if row["pattern"])
        kept = sum(_size(row) * float(row["density"]) for row in self._rows if row["pattern"])
        summary = {
            "blocks": self.done,
            "pruned weights": sum(bool(row["pattern"]) for row in self._rows),
            "density of the pruned": kept / total if total else 1.0,
            "score": score,
            "update": update if isinstance(update, str) else "obs",
        }
        return Report("sparsify", tuple(self._rows), summary, ok=total > 0)

    def _file(self, index: int) -> Path:
        return self._folder / f"batches-{index}.pt"

    def _read(self, path: Path) -> None:
        try:
            body = json.loads(path.read_text())
            key, self.done, self._rows = body["key"], int(body["done"]), list(body["rows"])
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"{path} is no progress of a block-wise run: {error}") from error
        different = [name for name in self._key if key.get(name) != self._key[name]]
        if different:
            raise ArgumentError(
                f"{path.parent} holds the progress of a run with other {' and '.join(different)}; name another folder, or remove it "
                "to begin again"
            )


def _size(row: Mapping[str, Any]) -> int:
    total = 1
    for side in row["shape"]:
        total *= side
    return total
