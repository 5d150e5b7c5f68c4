"""Image classification."""

import hashlib
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...errors import ArgumentError, NotSupportedError
from ...training import Batches
from ..recipe.data import ImageData
from ..sources import Source
from .calling import answer_of, answers, chunks
from .files import images_in, split
from .labels import class_of
from .protocol import Loss, Measure, Scores, Split

__all__ = ["Images", "input_name"]

Item = tuple[Path, int]


class Images:
    """Image classification, with one folder of images per class.

    An image becomes a float32 tensor ``[channels, height, width]``: resized to ``image_size`` if the model's configuration has one, scaled
    to the range 0 to 1, and normalised by the mean and standard deviation in ``preprocessor_config.json``, if present.

    Parameters
    ----------
    data
        The folder and its split.
    source
        Folder and configuration of the model. A plain module has neither; its classes are the subfolders in order of their names.
    model
        The dense model.
    """

    name = "images"
    description = "Image classification: each image is assigned one of the model's classes."
    unit = "images"
    loss: Loss = "cross-entropy"
    measures: tuple[Measure, ...] = (
        Measure("accuracy", "1", True, "Share of images that are classified correctly."),
        Measure("agreement", "1", True, "Share of images for which the predicted class equals the dense model's."),
    )

    def __init__(self, data: ImageData, source: Source, model: Any) -> None:
        classes = images_in(Path(data.folder))
        if source.kind == "module":
            numbers = {name: number for number, name in enumerate(classes)}
        else:
            numbers = {name: class_of(name, source.config, f"the folder {name}") for name in classes}
        items: list[Item] = [(file, numbers[name]) for name, files in classes.items() for file in files]
        self._parts = split(items, data.validation, data.test, data.seed, data.folder)
        self._input = input_name(model) if source.kind == "module" else "pixel_values"
        self._size, self._channels = source.config.get("image_size"), int(source.config.get("num_channels", 0))
        self._mean, self._deviation = _normal(Path(source.folder) if source.folder else None)
        sha = hashlib.sha256()
        for file, number in (*self._parts.train, *self._parts.validation, *self._parts.test):
            sha.update(f"{number} {file.stat().st_size};".encode() + file.read_bytes())
        self.digest = sha.hexdigest()
        self._dense: dict[Split, NDArray[np.int64]] = {}

    def refer(self, dense: Any) -> None:
        """Store the dense model's predictions."""
        self._dense = {part: self._said(dense, part) for part in ("validation", "test")}

    def evaluate(self, model: Any, split: Split = "test") -> Scores:
        """Return for every image whether the predicted class is correct, and whether it equals the dense model's."""
        predicted = self._said(model, split)
        labels = np.array([number for _, number in self._items(split)])
        items = {"accuracy": predicted == labels, "agreement": predicted == self._dense[split]}
        return Scores({name: right.astype(np.float64) for name, right in items.items()}, self.measures)

    def batches(self, size: int, *, tokens: int, seed: int) -> Batches:
        """Return batches of images without their classes."""
        return Batches(self._parts.train, size, seed=seed, collate=self._collate)

    def output(self, result: Any, batch: Any) -> Tensor:
        """Return the logits."""
        return answer_of(result)

    def example(self, count: int) -> dict[str, Tensor]:
        """Return a batch of `count` images."""
        return self._collate((self._parts.test * (count // len(self._parts.test) + 1))[:count])

    def _items(self, part: Split) -> tuple[Item, ...]:
        return self._parts.test if part == "test" else self._parts.validation

    def _said(self, model: nn.Module, part: Split) -> NDArray[np.int64]:
        predicted = [
            answer.argmax(-1).numpy() for _, answer in answers(model, map(self._collate, chunks(self._items(part))))
        ]
        return np.concatenate(predicted)

    def _collate(self, items: Sequence[Item]) -> dict[str, Tensor]:
        pixels = [self._pixels(file) for file, _ in items]
        odd = next((n for n, image in enumerate(pixels) if image.shape != pixels[0].shape), None)
        if odd is not None:
            raise ArgumentError(
                f"{items[odd][0]} has shape {list(pixels[odd].shape)}, but {items[0][0]} has shape {list(pixels[0].shape)}; "
                "a plain module needs images of one size: resize them"
            )
        return {self._input: torch.from_numpy(np.stack(pixels))}

    def _pixels(self, file: Path) -> NDArray[np.float32]:
        """Return an image as the model expects it, ``[channels, height, width]``."""
        try:
            from PIL import Image
        except ImportError:
            raise NotSupportedError("reading images needs the package pillow: pip install pillow") from None
        try:
            with Image.open(file) as image:
                channels = self._channels or (1 if image.mode in ("1", "L", "I;16") else 3)
                picture = image.convert("L" if channels == 1 else "RGB")
        except OSError as error:
            raise ArgumentError(f"{file} cannot be read as an image: {error}") from None
        if self._size is not None:
            height, width = (self._size, self._size) if isinstance(self._size, int) else self._size
            if picture.size != (width, height):
                picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        array = np.asarray(picture, dtype=np.float32).reshape(picture.height, picture.width, -1) / 255
        array = (array - self._mean) / self._deviation
        return np.ascontiguousarray(array.transpose(2, 0, 1), dtype=np.float32)


def input_name(model: nn.Module) -> str:
    """Return the name of a module's first input."""
    return next(iter(inspect.signature(model.forward).parameters))


_PLAIN = np.zeros(1, np.float32), np.ones(1, np.float32)


def _normal(folder: Path | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the mean and standard deviation of each channel, from the preprocessor's configuration."""
    file = None if folder is None else folder / "preprocessor_config.json"
    config = json.loads(file.read_text("utf-8")) if file is not None and file.is_file() else {}
    if not config.get("do_normalize", "image_mean" in config):
        return _PLAIN
    mean, deviation = (np.asarray(config.get(key, [0.5]), np.float32) for key in ("image_mean", "image_std"))
    return mean, deviation
