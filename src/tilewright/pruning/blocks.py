"""One-shot pruning of models larger than memory: one block at a time, what flows between blocks kept on disk."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, FormatError
from ..patterns import Pattern
from ..report import Report
from .calibration import Calibration, call, resting
from .choices import Targets
from .sparsify import sparsify_
from .update import Obs

__all__ = ["next_batch", "sparsify_blocks"]


def sparsify_blocks(
    names: Sequence[str],
    pattern: Pattern | str,
    *,
    load: Callable[[str], nn.Module],
    save: Callable[[str, nn.Module], None],
    data: Calibration,
    folder: str | os.PathLike[str],
    advance: Callable[[Any, Any], Any] | None = None,
    score: str = "second-order",
    update: str | Obs = "obs",
    targets: Targets | None = None,
    ignore: Iterable[str] = (),
    strict: bool = False,
) -> Report:
    """Prune a chain of blocks, such as the layers of a transformer, of which one at a time is in memory.

    Each block is loaded, pruned on the outputs of the pruned blocks before it, saved and let go. After a kill the same call goes on
    with the block it was at; what was saved is not done again.

    Parameters
    ----------
    names
        The blocks in the order data flow through them.
    load
        ``load(name)`` gives the dense block. It is called again for a block that was not finished, so it must not read what
        `save` wrote.
    save
        ``save(name, block)`` writes the pruned block, masks in it as `sparsify_` leaves them. For a block cut short after
        saving it is called again.
    data
        Batches are what the first block is called with.
    folder
        Where batches between blocks and the progress are kept: as much disk as two sets of batches. Made if missing; to be
        removed by hand once everything is done.
    advance
        ``advance(batch, output)`` gives the batch of the next block; `next_batch` unless told.
    score, update, targets, ignore, strict
        As for `sparsify_`, with names relative to a block.

    Returns
    -------
    Report
        The rows of all blocks, each name after its block's, those of earlier calls included.

    Raises
    ------
    ArgumentError
        If the folder holds the progress of other blocks, patterns, options or data.
    FormatError
        If what is in the folder cannot be read.
    TilewrightError
        As `sparsify_`; a block that fails is not saved.

    Examples
    --------
    >>> import tempfile
    >>> blocks = {"0": nn.Linear(8, 8), "1": nn.Linear(8, 8)}
    >>> data = Calibration([torch.randn(16, 8) for _ in range(4)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = sparsify_blocks(
    ...         ["0", "1"], "2:4", load=blocks.get, save=blocks.__setitem__, data=data, folder=folder
    ...     )
    >>> [row["name"] for row in report.rows]
    ['0.weight', '1.weight']
    """
    ignored = list(ignore)
    batches = list(data.batches)
    options = asdict(update) if isinstance(update, Obs) else update
    key = {
        "blocks": list(names),
        "pattern": repr(pattern),
        "how": repr((score, options, targets, ignored)),
        "data": _digest(batches),
    }
    progress = _Progress(Path(folder), key)
    for index in range(progress.done, len(names)):
        if index:
            batches = progress.batches(index)
        block = load(names[index])
        own = replace(data, batches=batches)
        seen = None if update == "none" and score == "magnitude" else own
        report = sparsify_(
            block,
            pattern,
            score=score,
            update=update,
            targets=targets,
            ignore=ignored,
            strict=strict,
            data=seen,
        )
        save(names[index], block)
        if index + 1 < len(names):
            batches = _flow(block, own, advance or next_batch)
        progress.finish(index, names[index], report, batches)
        del block, own, seen  # before the next one comes
    return progress.report(score, options)


def next_batch(batch: Any, output: Any) -> Any:
    """Return a batch whose hidden state is the output of a block, and whose other parts are unchanged.

    The output is a tensor, or the first item of a tuple. It takes the place of a tensor batch, of the first item of a tuple or list,
    and of ``hidden_states`` in a mapping, or of its first entry if there is none.

    Examples
    --------
    >>> next_batch({"hidden_states": 1, "mask": 2}, (3, "cache"))
    {'hidden_states': 3, 'mask': 2}
    """
    hidden = output[0] if isinstance(output, tuple | list) else output
    match batch:
        case Mapping():
            name = "hidden_states" if "hidden_states" in batch else next(iter(batch))
            return {**batch, name: hidden}
        case tuple() | list():
            return type(batch)([hidden, *batch[1:]])
        case _:
            return hidden


def _flow(block: nn.Module, data: Calibration, advance: Callable[[Any, Any], Any]) -> list[Any]:
    """Return the batches of the next block, each in the place of its own so that they are not in memory twice."""
    batches = data.batches
    assert isinstance(batches, list)
    with resting(block), torch.no_grad():
        for index, batch in enumerate(batches):
            batches[index] = advance(batch, call(block, data, batch))
    return batches


class _Progress:
    """What is done, in ``progress.json``, and the batches of the block that is next.

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
            _replace(self._file(index + 1), lambda path: torch.save(batches, path))
        self._rows += [{**row, "name": f"{name}.{row['name']}"} for row in report.rows]
        self.done = index + 1
        body = {"key": self._key, "done": self.done, "rows": self._rows}
        _replace(self._folder / "progress.json", lambda path: path.write_text(json.dumps(body)))
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


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file beside its place and move it there, flushed: a kill leaves the old file or the new one."""
    partial = path.with_name(path.name + ".partial")
    write(partial)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)


def _digest(batches: Sequence[Any]) -> str:
    """Return a hash of all tensors and plain values in the batches."""
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        match value:
            case Tensor():
                plain = value.detach().cpu().contiguous()
                digest.update(f"{plain.dtype} {list(plain.shape)} ".encode())
                digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
            case Mapping():
                for name, part in value.items():
                    add(name)
                    add(part)
            case tuple() | list():
                for part in value:
                    add(part)
            case _:
                digest.update(repr(value).encode())

    add(list(batches))
    return digest.hexdigest()
