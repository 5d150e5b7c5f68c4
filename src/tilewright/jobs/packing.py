"""Write a pruned model with its additional files, load it again, and compare the two."""

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
    """Write the model of a job, with the tokenizer and any other files of the dense model's folder."""
    save(
        model,
        place,
        dtype=recipe.dtype,
        recipe=recipe.resolved(),
        recipe_hash=recipe.digest(),
        files=files_of(model, recipe.model),
    )


def files_of(model: Any, name: str) -> dict[str, os.PathLike[str]]:
    """Return the additional files to write with a model; a SentenceTransformer writes its own."""
    source = source_of(name)
    return other_files(source.folder) if source.kind == "transformers" and inner_model(model) is model else {}


def load_packed(name: str, place: str | os.PathLike[str], *, measure: bool = True) -> Any:
    """Load the packed model that a job wrote; a plain module is first built by the callable that `name` names."""
    if source_of(name).kind == "module":
        return load_(read_model(name), place, measure=measure)
    return load(place, measure=measure)


def require_alike(student: nn.Module, packed: nn.Module, batch: Mapping[str, Tensor]) -> None:
    """Check that a packed model's outputs match those of the model before packing.

    Raises
    ------
    CheckFailed
        If the mean cosine between their outputs on a batch is below 0.999.
    """
    ours, theirs = (next(answers(model, iter([dict(batch)])))[1].flatten(1) for model in (packed, student))
    cosine = float(torch.nn.functional.cosine_similarity(ours.double(), theirs.double()).mean())
    if not cosine >= 0.999:
        raise CheckFailed(
            f"the packed model's outputs have a mean cosine of {cosine:.4f} to those of the model before packing; it should be 1 up to "
            "rounding. Run `tilewright doctor` to check the kernels on this machine"
        )
