"""The `data` section of a recipe: one class per task."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from .parts import Part

__all__ = [
    "TASKS",
    "ClassificationData",
    "Data",
    "ImageData",
    "MatchData",
    "RegressionData",
    "RetrievalData",
    "TextData",
]

Count = Annotated[int, Field(ge=10)]
Seed = Annotated[int, Field(ge=0)]


class RetrievalData(Part):
    """Passages and evaluation pairs from the documentation of the running Python.

    Parameters
    ----------
    source
        Source of the text. ``python-docs`` is the only one so far.
    pairs
        Number of held-out pairs that the model is evaluated on.
    validation
        Number of further held-out pairs, for monitoring and selection.
    seed
        Seed that selects the held-out pairs.
    """

    task: Literal["retrieval"] = Field(default="retrieval", exclude=True)
    source: Literal["python-docs"] = "python-docs"
    pairs: Count = 500
    validation: Count = 200
    seed: Seed = 0


class _LabelledText(Part):
    """Labelled texts from a file.

    Parameters
    ----------
    file
        CSV file with a header (``.csv``, ``.tsv``), or JSON lines (``.jsonl``).
    text
        Column that holds the text.
    second
        Column that holds a second text, for models that read pairs.
    label
        Column that holds the label: a class name or number, or the number to predict.
    test
        Number of rows that the model is evaluated on.
    validation
        Number of further rows, for selection.
    seed
        Seed of the split. The remaining rows are used for training, without their labels.
    max_tokens
        Maximum tokens per text; longer texts are truncated.
    """

    file: str = Field(min_length=1)
    text: str = "text"
    second: str | None = None
    label: str = "label"
    test: Count = 200
    validation: Count = 100
    seed: Seed = 0
    max_tokens: int = Field(default=128, ge=1)


class ClassificationData(_LabelledText):
    """Texts from a file, each with its class."""

    task: Literal["classification"] = Field(default="classification", exclude=True)


class RegressionData(_LabelledText):
    """Texts from a file, each with the number to predict."""

    task: Literal["regression"] = Field(default="regression", exclude=True)


class TextData(Part):
    """Running text cut into windows, for next-token prediction.

    Parameters
    ----------
    file
        A text file, or a folder of ``.txt``, ``.md`` and ``.rst`` files. Default: the documentation of the running Python.
    tokens
        Tokens per window.
    test
        Number of windows that the model is evaluated on.
    validation
        Number of further windows, for selection.
    windows
        Maximum number of windows in all; the rest of the text is ignored.
    seed
        Seed of the split.
    """

    task: Literal["next-token"] = Field(default="next-token", exclude=True)
    file: str | None = None
    tokens: int = Field(default=128, ge=2)
    test: Count = 100
    validation: Count = 50
    windows: int = Field(default=4000, ge=30)
    seed: Seed = 0


class ImageData(Part):
    """Images sorted into one folder per class.

    Parameters
    ----------
    folder
        Folder that holds one subfolder of images per class, named after the class.
    test
        Number of images that the model is evaluated on.
    validation
        Number of further images, for selection.
    seed
        Seed of the split. The remaining images are used for training, without their labels.
    """

    task: Literal["images"] = Field(default="images", exclude=True)
    folder: str = Field(min_length=1)
    test: Count = 200
    validation: Count = 100
    seed: Seed = 0


class MatchData(Part):
    """Inputs, from a file or generated, on which the model should match the dense model's outputs.

    Parameters
    ----------
    file
        ``.npz``, ``.npy`` or ``.safetensors`` file with one array per model input, by name, items along the first axis. Default:
        generated inputs, which are passages of the running Python's documentation for models with a tokenizer, else random tokens
        or normal noise.
    shape
        Shape of one item, for a plain module without `file`.
    test
        Number of items that the model is evaluated on.
    validation
        Number of further items, for selection.
    items
        Number of items to generate.
    tokens
        Maximum tokens per generated item.
    seed
        Seed of the generated items and of the split.
    """

    task: Literal["match"] = Field(default="match", exclude=True)
    file: str | None = None
    shape: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    test: Count = 100
    validation: Count = 50
    items: int = Field(default=2000, ge=30)
    tokens: int = Field(default=64, ge=1)
    seed: Seed = 0

    @model_validator(mode="after")
    def _one(self) -> "MatchData":
        if self.file is not None and self.shape is not None:
            raise ValueError("give either file or shape, not both: the arrays in the file already have shapes")
        return self


TASKS: dict[str, type[Part]] = {
    "retrieval": RetrievalData,
    "classification": ClassificationData,
    "regression": RegressionData,
    "next-token": TextData,
    "images": ImageData,
    "match": MatchData,
}
"""The data class of each task, by task name."""


def _task(value: Any) -> Any:
    return value.get("task") if isinstance(value, dict) else getattr(value, "task", None)


Data = Annotated[
    Annotated[RetrievalData, Tag("retrieval")]
    | Annotated[ClassificationData, Tag("classification")]
    | Annotated[RegressionData, Tag("regression")]
    | Annotated[TextData, Tag("next-token")]
    | Annotated[ImageData, Tag("images")]
    | Annotated[MatchData, Tag("match")],
    Discriminator(_task),
]
"""One of `TASKS`. `Recipe` puts its task inside before validation, so that the class can be chosen."""
