"""Which task a model is judged by, decided from its configuration alone, so that a mistake is found in milliseconds."""

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
    """Return the task of a model: the one wanted, if the model can do it, else the one that its configuration speaks of.

    Raises
    ------
    ArgumentError
        If the model cannot do the task that is wanted.

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
            f"task is {wanted!r}, and {source.name} is a {kind}, which can be judged by {' or '.join(map(repr, able))}"
        )
    return wanted


def _able(source: Source) -> tuple[str, ...]:
    """Return what a model can be judged by, its own task first."""
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
    """Refuse data that is not there, before anything long begins.

    Raises
    ------
    ArgumentError
        If a file or folder of the recipe does not exist.
    """
    if file is not None and not Path(file).exists():
        raise ArgumentError(
            f"data.file is {file!r}, and there is no such file; paths count from where the command runs"
        )
    if folder is not None and not Path(folder).is_dir():
        raise ArgumentError(
            f"data.folder is {folder!r}, and there is no such folder; paths count from where the command runs"
        )
