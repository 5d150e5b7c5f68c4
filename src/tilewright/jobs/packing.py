"""Writing a pruned model with the files around it, reading it back, and holding the two against each other."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckFailed
from ..runtime import load, load_, save
from .models import inner_model, other_files, read_model
from .recipe.recipe import Recipe
from .sources import source_of
from .tasks.calling import answers

__all__ = ["load_packed", "require_alike", "save_packed"]


def save_packed(model: Any, place: str | os.PathLike[str], recipe: Recipe) -> None:
    """Write the model of a job, with the tokenizer and whatever else its folder holds beside the weights."""
    save(
        model,
        place,
        dtype=recipe.dtype,
        recipe=recipe.resolved(),
        recipe_hash=recipe.digest(),
        files=files_of(model, recipe.model),
    )


def files_of(model: Any, name: str) -> dict[str, os.PathLike[str]]:
    """Return the files to write beside a model's weights; a SentenceTransformer knows its own."""
    source = source_of(name)
    return other_files(source.folder) if source.kind == "transformers" and inner_model(model) is model else {}


def load_packed(name: str, place: str | os.PathLike[str], *, measure: bool = True) -> Any:
    """Return the packed model that a job has written; a plain module is built first, by what its name names."""
    if source_of(name).kind == "module":
        return load_(read_model(name), place, measure=measure)
    return load(place, measure=measure)


def require_alike(student: nn.Module, packed: nn.Module, batch: Mapping[str, Tensor]) -> None:
    """Refuse a packed model that does not say what the model says that was packed.

    Raises
    ------
    CheckFailed
        If their outputs on a batch have a cosine below 0.999 on average.
    """
    ours, theirs = (next(answers(model, iter([dict(batch)])))[1].flatten(1) for model in (packed, student))
    cosine = float(torch.nn.functional.cosine_similarity(ours.double(), theirs.double()).mean())
    if not cosine >= 0.999:
        raise CheckFailed(
            f"the packed model's outputs have a mean cosine of {cosine:.4f} to those of the model that was packed; it should be 1 to rounding. "
            "Run the tests of formats and kernels on this machine"
        )
