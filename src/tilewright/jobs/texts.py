"""Passages of a corpus as batches of a model: for training, for calibration, and as the loss of a pruned model."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..pruning import Calibration
from ..training import Batches, Distillation, RecoverOptions, mean_pooled
from .corpus import Corpus
from .models import inner_model
from .recipe_prune import CalibrationData

__all__ = ["attention", "batches_of", "calibration_of"]


def batches_of(model: Any, corpus: Corpus, size: int, most: int, seed: int) -> Batches:
    """Return shuffled batches of the passages, cut to so many tokens, similar lengths together."""
    tokenizer = model.tokenizer
    items = [ids[:most] for ids in tokenizer(list(corpus.passages), truncation=True, max_length=most)["input_ids"]]
    pad = tokenizer.pad_token_id or 0

    def collate(rows: list[list[int]]) -> dict[str, torch.Tensor]:
        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), pad)
        mask = torch.zeros_like(ids)
        for at, row in enumerate(rows):
            ids[at, : len(row)] = torch.tensor(row)
            mask[at, : len(row)] = 1
        return {"input_ids": ids, "attention_mask": mask}

    return Batches(items, size, seed=seed, collate=collate, lengths=[len(ids) for ids in items])


def calibration_of(model: Any, corpus: Corpus, chosen: CalibrationData) -> Calibration:
    """Return calibration data for a copy of a dense model: batches, and the distance of embeddings from the dense ones as the loss."""
    batches = batches_of(model, corpus, min(chosen.batch, chosen.passages), chosen.max_tokens, chosen.seed)
    loss = Distillation(inner_model(model), RecoverOptions(steps=1, hidden=0.0), mean_pooled, scored=True)
    count = max(1, chosen.passages // batches.size)
    return Calibration([batches[step] for step in range(count)], loss=loss)


@contextmanager
def attention(implementation: str | None, *models: Any) -> Iterator[None]:
    """Switch the attention of transformers for a while; with None nothing is switched."""
    inner = [
        inner_model(model)
        for model in models
        if implementation and hasattr(inner_model(model), "set_attn_implementation")
    ]
    before = [model.config._attn_implementation for model in inner]
    for model in inner:
        model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        for model, name in zip(inner, before, strict=True):
            model.set_attn_implementation(name)
