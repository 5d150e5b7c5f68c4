"""Files of a block-by-block run, from which an interrupted run resumes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ...errors import ArgumentError, FormatError
from ...records import Report, replacing, write_whole

__all__ = ["BlockLog"]


class BlockLog:
    """Progress of a run, in ``progress.json``, and the batches of the next block.

    Parameters
    ----------
    folder
        Folder of the files, created if missing.
    key
        Values that identify the run, by name, as JSON.

    Notes
    -----
    A file appears under its name only once it is complete. The batches are written first, then the progress that relies on them; the
    batches of the block before are deleted last.
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
        """Return the batches of the block with this index."""
        path = self._file(index)
        try:
            batches: list[Any] = torch.load(path, weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged file
            raise FormatError(
                f"cannot read {path}, the batches of the next block: {error}; delete the folder and start again"
            ) from error
        return batches

    def finish(self, index: int, name: str, report: Report, batches: list[Any]) -> None:
        """Record that a block is saved, with its report and the batches of the next block."""
        if index + 1 < len(self._key["blocks"]):
            with replacing(self._file(index + 1)) as file:
                torch.save(batches, file)
        self._rows += [{**row, "name": f"{name}.{row['name']}"} for row in report.rows]
        self.done = index + 1
        body = {"key": self._key, "done": self.done, "rows": self._rows}
        write_whole(self._folder / "progress.json", json.dumps(body))
        self._file(index).unlink(missing_ok=True)

    def report(self, score: str, update: Any) -> Report:
        """Return the report with the rows of all finished blocks."""
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
            raise FormatError(
                f"{path} is not the progress file of a block-by-block run: {error}; delete the folder and start again"
            ) from error
        different = [name for name in self._key if key.get(name) != self._key[name]]
        if different:
            raise ArgumentError(
                f"{path.parent} belongs to a run with different values of {' and '.join(different)}; use another folder, or delete this one "
                "to start again"
            )


def _size(row: Mapping[str, Any]) -> int:
    size = 1
    for length in row["shape"]:
        size *= length
    return size
