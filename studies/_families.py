"""The model families of the studies: model, real data, loss and score of each, all trained from scratch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tilewright.training import Batches, TrainOptions

from . import _models
from ._text import Windows, bare, characters, without_vowels

LENGTH = 96
HELD_OUT = 256
"""Number of text windows that a score is computed on."""


@dataclass(frozen=True)
class Family:
    """A model and its task.

    Parameters
    ----------
    name, score
        Names of the family and its score, as shown in figures and tables. A higher score is better.
    build
        ``build()`` returns an untrained model.
    batches
        ``batches(seed)`` returns the training batches.
    loss, evaluate
        ``loss(model, batch)`` returns the training loss; ``evaluate(model)`` returns the score on held-out data.
    inputs
        ``inputs(batch)`` returns the arguments of the model.
    options
        Fields of `TrainOptions`, without the seed, for training the dense model and for repeating that training after pruning.
    ignore
        Names or globs of modules that stay dense: those that see raw inputs.
    """

    name: str
    score: str
    build: Callable[[], nn.Module]
    batches: Callable[[int], Batches]
    loss: Callable[[nn.Module, Any], Tensor]
    evaluate: Callable[[nn.Module], float]
    inputs: Callable[[Any], Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()

    def training(self, seed: int, **changes: Any) -> TrainOptions:
        """Return the options of a training run."""
        return TrainOptions(**{**self.options, **changes}, seed=seed)


@cache
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return training images ``[n, 1, 8, 8]`` and labels, then the held-out third."""
    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    images = torch.from_numpy(bunch.images[order]).float().unsqueeze(1) / 8 - 1
    labels = torch.from_numpy(bunch.target[order]).long()
    cut = len(labels) * 2 // 3
    return images[:cut], labels[:cut], images[cut:], labels[cut:]


def _image_batches(seed: int) -> Batches:
    images, labels, *_ = digits()

    def collate(items: list[int]) -> tuple[Tensor, Tensor]:
        return images[items] + 0.1 * torch.randn(len(items), 1, 8, 8), labels[items]

    return Batches(range(len(labels)), 64, seed=seed, collate=collate)


def _image_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return cross_entropy(model(batch[0]), batch[1])


@torch.no_grad()
def _image_score(model: nn.Module) -> float:
    *_, images, labels = digits()
    model.eval()
    return float((model(images).argmax(1) == labels).float().mean())


def _text_batches(seed: int) -> Batches:
    return Batches(Windows(characters()[0], LENGTH + 1, 53), 24, seed=seed)


def _held_out(stride: int = 400) -> Tensor:
    windows = Windows(characters()[1], LENGTH + 1, stride)
    return torch.stack([windows[i] for i in range(HELD_OUT)])


def _next_loss(model: nn.Module, batch: Tensor) -> Tensor:
    return cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())


@torch.no_grad()
def _next_score(model: nn.Module) -> float:
    model.eval()
    windows = _held_out()
    return float((model(windows[:, :-1]).argmax(-1) == windows[:, 1:]).float().mean())


def _vowel_loss(model: nn.Module, batch: Tensor) -> Tensor:
    target = batch[:, :-1]
    seen, hidden = without_vowels(target)
    return cross_entropy(model(seen)[hidden], target[hidden])


@torch.no_grad()
def _vowel_score(model: nn.Module) -> float:
    model.eval()
    target = _held_out()[:, :-1]
    seen, hidden = without_vowels(target)
    return float((model(seen).argmax(-1) == target)[hidden].float().mean())


def _restoration(windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the bare text, the target text shifted right by one, and the target text."""
    source = torch.stack([bare(window) for window in windows])
    return source, nn.functional.pad(windows[:, :-1], (1, 0)), windows


def _restore_loss(model: nn.Module, batch: Tensor) -> Tensor:
    source, before, target = _restoration(batch[:, :64])
    return cross_entropy(model(source, before).flatten(0, 1), target.flatten())


@torch.no_grad()
def _restore_score(model: nn.Module) -> float:
    model.eval()
    source, before, target = _restoration(_held_out()[:, :64])
    return float((model(source, before).argmax(-1) == target).float().mean())


def _shown(batch: Tensor) -> Tensor:
    return batch[:, :-1]


def _restored(batch: Tensor) -> tuple[Tensor, Tensor]:
    return _restoration(batch[:, :64])[:2]


def _images(name: str, build: Callable[[], nn.Module], steps: int, rate: float, ignore: tuple[str, ...]) -> Family:
    options = {"steps": steps, "learning_rate": rate, "weight_decay": 0.01}
    return Family(
        name, "accuracy", build, _image_batches, _image_loss, _image_score, lambda batch: batch[0], options, ignore
    )


def _letters(
    name: str, score: str, build: Callable[[], nn.Module], loss: Any, evaluate: Any, inputs: Any, steps: int
) -> Family:
    options = {"steps": steps, "learning_rate": 2e-3, "weight_decay": 0.01}
    return Family(name, score, build, _text_batches, loss, evaluate, inputs, options)


FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        _images("MLP", _models.mlp, 600, 1e-3, ()),
        _images("CNN", _models.cnn, 300, 3e-3, ("0",)),
        _images("ResNet", _models.resnet, 200, 3e-3, ("0",)),
        _images("ViT", _models.Vit, 500, 1e-3, ("patches",)),
        _letters("BERT", "hidden vowels", lambda: _models.Characters(False), _vowel_loss, _vowel_score, _shown, 400),
        _letters("GPT", "next characters", lambda: _models.Characters(True), _next_loss, _next_score, _shown, 500),
        _letters("LSTM", "restored characters", _models.Restorer, _restore_loss, _restore_score, _restored, 1200),
    )
}
