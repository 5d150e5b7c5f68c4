"""Match: similarity to the dense model's outputs, for models that no other task fits."""

import hashlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import ArgumentError
from ...training import Batches, mean_pooled
from ..corpus import python_docs
from ..recipe.data import MatchData
from ..sources import Source
from .calling import answer_of, answers, chunks, padded, tokenizer_of
from .files import split
from .protocol import Loss, Measure, Scores, Split

__all__ = ["Match"]

_LEAST_NORM = 1e-12


class Match:
    """Compare a model's outputs with the dense model's, on inputs from a file or generated ones.

    Parameters
    ----------
    data
        The file, or the parameters of generated inputs.
    source
        Where the model comes from.
    model
        The dense model.
    """

    name = "match"
    description = "Similarity: the outputs are compared with the dense model's on the same inputs."
    unit = "inputs"
    measures: tuple[Measure, ...] = (
        Measure(
            "cosine",
            "1",
            True,
            "Similarity of the outputs to the dense model's: 1 for the same direction, 0 for no similarity.",
        ),
        Measure(
            "relative error",
            "1",
            False,
            "Distance of the outputs from the dense model's, relative to their size; 0 for equal outputs.",
        ),
    )

    def __init__(self, data: MatchData, source: Source, model: Any) -> None:
        self._inner: nn.Module = model[0].auto_model if source.kind in ("sentences", "hub") else model
        self.loss: Loss = "cosine" if source.kind in ("sentences", "hub") else "mse"
        self._pooled = source.kind in ("sentences", "hub")
        self._pad = 0
        items = self._given(Path(data.file)) if data.file is not None else self._generated(data, source)
        self._parts = split(items, data.validation, data.test, data.seed, data.file or "the generated data")
        sha = hashlib.sha256()
        for item in items:
            for name, value in item.items():
                sha.update(f"{name} {value.shape} {value.dtype};".encode() + np.ascontiguousarray(value).tobytes())
        self.digest = sha.hexdigest()
        self._dense: nn.Module | None = None

    def refer(self, dense: Any) -> None:
        """Store the dense model itself, since its outputs may be larger than the model."""
        self._dense = dense[0].auto_model if type(dense).__name__ == "SentenceTransformer" else dense

    def evaluate(self, model: Any, split: Split = "test") -> Scores:
        """Return the similarity and the distance for every item; padding does not count."""
        assert self._dense is not None
        inner = model[0].auto_model if type(model).__name__ == "SentenceTransformer" else model
        items = self._parts.test if split == "test" else self._parts.validation
        cosines, errors = [], []
        calls = [self._collate(chunk) for chunk in chunks(items)]
        pairs = zip(answers(inner, iter(calls)), answers(self._dense, iter(calls)), strict=True)
        for (batch, answer), (_, reference) in pairs:
            ours, theirs = (_rows(tensor, batch) for tensor in (answer, reference))
            norms = ours.norm(dim=1), theirs.norm(dim=1)
            cosines.append(((ours * theirs).sum(1) / (norms[0] * norms[1]).clamp(min=_LEAST_NORM)).numpy())
            errors.append(((ours - theirs).norm(dim=1) / norms[1].clamp(min=_LEAST_NORM)).numpy())
        return Scores({"cosine": np.concatenate(cosines), "relative error": np.concatenate(errors)}, self.measures)

    def batches(self, size: int, *, tokens: int, seed: int) -> Batches:
        """Return batches of inputs, with token ids truncated to `tokens`."""
        lengths = [max((len(value) for value in item.values() if value.ndim), default=0) for item in self._parts.train]
        return Batches(
            self._parts.train, size, seed=seed, collate=lambda chunk: self._collate(chunk, tokens), lengths=lengths
        )

    def output(self, result: Any, batch: Any) -> Tensor:
        """Return the model's output; for a SentenceTransformer, the sentence embeddings."""
        return mean_pooled(result, batch) if self._pooled else answer_of(result)

    def example(self, count: int) -> dict[str, Tensor]:
        """Return a batch of `count` inputs."""
        return self._collate((self._parts.test * (count // len(self._parts.test) + 1))[:count])

    def _collate(self, items: Sequence[Mapping[str, Any]], tokens: int | None = None) -> dict[str, Tensor]:
        batch: dict[str, Tensor] = {}
        for name in items[0]:
            values = [item[name] for item in items]
            if name == "input_ids" and "attention_mask" not in items[0]:
                batch |= padded([value[:tokens].tolist() for value in values], self._pad)
            else:
                batch[name] = torch.from_numpy(np.stack(values))
        return batch

    def _given(self, file: Path) -> list[dict[str, Any]]:
        arrays = _arrays(file)
        counts = {name: len(array) for name, array in arrays.items()}
        if not arrays or len(set(counts.values())) != 1:
            raise ArgumentError(
                f"the arrays in data.file {file} must have the same number of items along the first axis, got {counts}"
            )
        parameters = inspect.signature(self._inner.forward).parameters
        open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        unexpected = [name for name in arrays if name not in parameters and not open_ended]
        if unexpected and len(arrays) == 1:
            arrays = {next(iter(parameters)): next(iter(arrays.values()))}
        elif unexpected:
            raise ArgumentError(
                f"data.file {file} contains {unexpected[0]!r}, which is not an input of {type(self._inner).__name__}; its inputs are "
                f"{', '.join(parameters)}"
            )
        return [{name: array[at] for name, array in arrays.items()} for at in range(next(iter(counts.values())))]

    def _generated(self, data: MatchData, source: Source) -> list[dict[str, Any]]:
        rng = np.random.default_rng(data.seed)
        if data.shape is not None:
            name = next(iter(inspect.signature(self._inner.forward).parameters))
            return [{name: rng.standard_normal(data.shape, dtype=np.float32)} for _ in range(data.items)]
        main = getattr(self._inner, "main_input_name", None)
        config = getattr(self._inner, "config", None)
        if main == "pixel_values":
            size = getattr(config, "image_size", None) or 224
            height, width = (size, size) if isinstance(size, int) else size
            shape = (getattr(config, "num_channels", 3), height, width)
            return [{main: rng.standard_normal(shape, dtype=np.float32)} for _ in range(data.items)]
        if main == "input_ids":
            seq2seq = getattr(config, "is_encoder_decoder", False)
            rows = list(self._tokens(data, source, rng))
            length = len(rows[0])
            return [{"input_ids": row, **({"decoder_input_ids": row[:length]} if seq2seq else {})} for row in rows]
        raise ArgumentError(
            f"the inputs of {type(self._inner).__name__} cannot be determined; give the shape of one input (data.shape, or --shape 3,32,32), "
            "or a file of inputs (data.file, or --inputs FILE)"
        )

    def _tokens(self, data: MatchData, source: Source, rng: np.random.Generator) -> Iterator[Any]:
        """Yield passages as token ids, or random ids of one length if there is no tokenizer."""
        config = self._inner.config
        most = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None) or data.tokens
        length = min(data.tokens, int(most))
        seq2seq = getattr(config, "is_encoder_decoder", False)
        if seq2seq or not any(
            (Path(source.folder) / file).is_file() for file in ("tokenizer.json", "tokenizer_config.json")
        ):
            words = int(config.get_text_config().vocab_size)  # type: ignore[operator, union-attr]
            yield from (rng.integers(0, words, length) for _ in range(data.items))
            return
        tokenizer = tokenizer_of(source.folder, self.name)
        self._pad = tokenizer.pad_token_id or 0
        passages = list(python_docs(10, data.seed).passages)[: data.items]
        for row in tokenizer(passages, truncation=True, max_length=length)["input_ids"]:
            yield np.asarray(row[:length], dtype=np.int64)


def _rows(answer: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Return an output as one row per item, with padding zeroed, ``[items, values]``."""
    mask = batch.get("attention_mask")
    if mask is not None and answer.ndim > 2 and answer.shape[:2] == mask.shape:
        answer = answer * mask[..., None]
    return answer.reshape(len(answer), -1).double()


def _arrays(file: Path) -> dict[str, Any]:
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        if file.suffix == ".npy":
            return {"": np.load(file, allow_pickle=False)}
        if file.suffix == ".safetensors":
            from safetensors.numpy import load_file

            return dict(load_file(file))
    except (OSError, ValueError) as error:
        raise ArgumentError(f"data.file {file} cannot be read: {error}") from None
    raise ArgumentError(f"data.file {file} ends in {file.suffix or 'nothing'}; expected .npz, .npy or .safetensors")
