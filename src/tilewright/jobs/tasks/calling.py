"""Call any model on a batch and extract its output tensor."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ArgumentError, NotSupportedError
from ...graph import evaluating

__all__ = ["answer_of", "answers", "chunks", "longest", "padded", "tokenizer_of", "uncached"]

CHUNK = 32
"""Items per call during evaluation."""


def answer_of(result: Any) -> Tensor:
    """Return the output tensor in a model's result: the logits, the last hidden state, or the first tensor.

    Raises
    ------
    ArgumentError
        If the result contains none of these.
    """
    for name in ("logits", "last_hidden_state"):
        tensor = getattr(result, name, None)
        if isinstance(tensor, Tensor):
            return tensor
    if isinstance(result, Mapping):
        result = list(result.values())
    if isinstance(result, tuple | list) and result:
        result = result[0]
    if not isinstance(result, Tensor):
        raise ArgumentError(
            f"the model returned a {type(result).__name__} without logits, last_hidden_state or a leading tensor; wrap it in a module that "
            "returns the tensor to evaluate"
        )
    return result


def uncached(model: nn.Module) -> dict[str, Any]:
    """Return the keyword argument that stops a language model from returning its cache, if it has one."""
    return {"use_cache": False} if getattr(getattr(model, "config", None), "use_cache", False) else {}


def answers(model: nn.Module, batches: Iterator[dict[str, Tensor]]) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Yield each batch with the model's output for it, in evaluation mode and without gradients."""
    extra = uncached(model)
    with evaluating(model):
        for batch in batches:
            # Not around the loop: interleaved generators would restore each other's gradient mode.
            with torch.no_grad():
                answer = answer_of(model(**batch, **extra)).float()
            yield batch, answer


def chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yield the items in chunks of one call each."""
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]


def padded(rows: Sequence[Sequence[int]], pad: int) -> dict[str, Tensor]:
    """Return token ids padded to one length, ``[rows, longest]``, and the mask of the real tokens, of the same shape."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros_like(ids)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = torch.tensor(row)
        mask[at, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def longest(model: nn.Module, tokenizer: Any) -> int:
    """Return the maximum number of tokens that a model reads, from its configuration and its tokenizer."""
    config: Any = getattr(model, "config", None)
    sides = (getattr(config, name, None) for name in ("max_position_embeddings", "n_positions"))
    return min([int(tokenizer.model_max_length), *(side for side in sides if isinstance(side, int) and side > 0)])


def tokenizer_of(folder: str, task: str) -> Any:
    """Return the tokenizer in a model's folder.

    Parameters
    ----------
    folder
        Folder of the model.
    task
        Name of the task, for error messages.

    Raises
    ------
    NotSupportedError
        If transformers is not installed.
    ArgumentError
        If the folder has no readable tokenizer.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise NotSupportedError(f"the task {task} needs transformers: pip install 'tilewright[hf]'") from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ArgumentError(
            f"{folder} has no readable tokenizer ({str(error).splitlines()[0]}), and the task {task} needs one; save it there, or use "
            "task: match"
        ) from None
    return tokenizer
