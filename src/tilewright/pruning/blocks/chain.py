"""One-shot pruning of models larger than memory: one block at a time, what flows between blocks kept on disk."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...patterns import Pattern
from ...records import Report, digest
from ..assignment import Targets
from ..inputs.calibration import Calibration, call, resting
from ..sparsify import sparsify_
from ..update.obs import Obs
from .log import BlockLog

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
        "data": digest(batches),
    }
    progress = BlockLog(Path(folder), key)
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
