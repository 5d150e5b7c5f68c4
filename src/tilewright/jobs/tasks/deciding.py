"""Choose the task of a model from its configuration alone, so that a mistake is reported in milliseconds."""

from pathlib import Path

from ...errors import ArgumentError
from ..sources import Source

__all__ = ["check_files", "decide"]

_ENDINGS = {
    "ForSequenceClassification": "classification",
    "ForCausalLM": "next-token",
    "LMHeadModel": "next-token",
    "ForImageClassification": "images",
}


def decide(source: Source, wanted: str | None) -> str:
    """Return the task of a model.

    Parameters
    ----------
    source
        Where the model comes from.
    wanted
        The requested task. Default (None): the task that the model's configuration implies.

    Raises
    ------
    ArgumentError
        If the model cannot do the requested task.

    Examples
    --------
    >>> decide(Source("m", "transformers", "m", "BertForSequenceClassification"), None)
    'classification'
    """
    able = _able(source)
    if wanted is None:
        return able[0]
    if wanted not in able:
        kind = source.architecture or {"module": "plain module", "sentences": "SentenceTransformer"}.get(
            source.kind, "model"
        )
        raise ArgumentError(
            f"task {wanted!r} does not fit {source.name}, a {kind}; expected {' or '.join(map(repr, able))}"
        )
    return wanted


def _able(source: Source) -> tuple[str, ...]:
    """Return the tasks that a model can do, the default first."""
    if source.kind in ("sentences", "hub"):
        return ("retrieval", "match")
    if source.kind == "module":
        return ("match", "images")
    task = next((task for ending, task in _ENDINGS.items() if source.architecture.endswith(ending)), "match")
    if task == "classification" and _regresses(source):
        task = "regression"
    return tuple(dict.fromkeys((task, "match")))


def _regresses(source: Source) -> bool:
    labels = source.config.get("id2label")
    count = source.config.get("num_labels", len(labels) if isinstance(labels, dict) else 2)
    return source.config.get("problem_type") == "regression" or count == 1


def check_files(file: str | None, folder: str | None) -> None:
    """Check that the data exists, before anything slow starts.

    Raises
    ------
    ArgumentError
        If the recipe's file or folder does not exist.
    """
    if file is not None and not Path(file).exists():
        raise ArgumentError(f"data.file {file!r} does not exist; paths are relative to the current folder")
    if folder is not None and not Path(folder).is_dir():
        raise ArgumentError(
            f"data.folder {folder!r} is not an existing folder; paths are relative to the current folder"
        )
