"""One-shot pruning of models larger than memory: one block at a time, with the data between blocks on disk."""

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
    """Prune a chain of blocks, such as the layers of a transformer, with only one block in memory at a time.

    Each block is loaded, pruned on the outputs of the pruned blocks before it, saved and released. If the process is killed, the same
    call resumes at the unfinished block; finished blocks are not processed again.

    Parameters
    ----------
    names
        Names of the blocks, in the order in which data pass through them.
    pattern
        Pattern of the weights, as for `sparsify_`.
    load
        ``load(name)`` returns the dense block. It is called again for an unfinished block, so it must not read what `save` wrote.
    save
        ``save(name, block)`` writes the pruned block, which contains its masks as after `sparsify_`. It is called again for a block that
        was saved but not yet recorded as finished.
    data
        Calibration data whose batches are the inputs of the first block.
    folder
        Folder for the progress and for the batches between blocks, which take as much disk space as two sets of batches. Created if
        missing; delete it when everything is done.
    advance
        ``advance(batch, output)`` returns the batch of the next block. Default: `next_batch`.
    score, update
        As for `sparsify_`. Defaults: ``"second-order"`` and ``"obs"``.
    targets, ignore, strict
        As for `sparsify_`, with names relative to a block.

    Returns
    -------
    Report
        The rows of all blocks, including those of earlier calls; each name begins with the name of its block.

    Raises
    ------
    ArgumentError
        If the folder belongs to a run with other blocks, patterns, options or data.
    FormatError
        If the contents of the folder cannot be read.
    TilewrightError
        As for `sparsify_`; a block that fails is not saved.

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
    identity = {
        "blocks": list(names),
        "pattern": repr(pattern),
        "how": repr((score, options, targets, ignored)),
        "data": digest(batches),
    }
    log = BlockLog(Path(folder), identity)
    for index in range(log.done, len(names)):
        if index:
            batches = log.batches(index)
        block = load(names[index])
        block_data = replace(data, batches=batches)
        score_data = None if update == "none" and score == "magnitude" else block_data
        report = sparsify_(
            block,
            pattern,
            score=score,
            update=update,
            targets=targets,
            ignore=ignored,
            strict=strict,
            data=score_data,
        )
        save(names[index], block)
        if index + 1 < len(names):
            batches = _flow(block, block_data, advance or next_batch)
        log.finish(index, names[index], report, batches)
        del block, block_data, score_data  # free the memory before the next block is loaded
    return log.report(score, options)


def next_batch(batch: Any, output: Any) -> Any:
    """Return a batch with its hidden state replaced by the output of a block, and everything else unchanged.

    Parameters
    ----------
    batch
        Batch that the block was called with. What is replaced is the batch itself if it is a tensor, the first item of a tuple or list,
        and in a mapping ``hidden_states``, or the first entry if there is none.
    output
        Output of the block: a tensor, or a tuple or list that begins with one.

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
    """Return the batches of the next block; the list is overwritten in place so that both sets are never in memory at once."""
    batches = data.batches
    assert isinstance(batches, list)
    with resting(block), torch.no_grad():
        for index, batch in enumerate(batches):
            batches[index] = advance(batch, call(block, data, batch))
    return batches
