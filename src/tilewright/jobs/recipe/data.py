"""What a model is judged by, as a recipe says it: one class of `data` for each task."""

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
    """Where passages and evaluation pairs come from: the running Python's own documentation.

    Parameters
    ----------
    source
        The only one so far.
    pairs
        Held-out pairs that the model is judged by.
    validation
        Further held-out pairs, to watch and choose by.
    seed
        Chooses which are held out.
    """

    task: Literal["retrieval"] = Field(default="retrieval", exclude=True)
    source: Literal["python-docs"] = "python-docs"
    pairs: Count = 500
    validation: Count = 200
    seed: Seed = 0


class _LabelledText(Part):
    """A file of texts with their labels.

    Parameters
    ----------
    file
        CSV with a header (``.csv``, ``.tsv``), or JSON lines (``.jsonl``).
    text
        Column of the text.
    second
        Column of a second text, for models that read two.
    label
        Column of the label: a class by name or number, or what is to be predicted.
    test
        Rows that the model is judged by.
    validation
        Further rows, to choose by.
    seed
        Chooses which; what is left is to learn from, without its labels.
    max_tokens
        Longer texts are cut.
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
    """A file of texts with the class of each."""

    task: Literal["classification"] = Field(default="classification", exclude=True)


class RegressionData(_LabelledText):
    """A file of texts with the number that belongs to each."""

    task: Literal["regression"] = Field(default="regression", exclude=True)


class TextData(Part):
    """Running text, cut into windows, in which every next token is predicted.

    Parameters
    ----------
    file
        A text file, or a folder of ``.txt``, ``.md`` and ``.rst`` files; null for the running Python's own documentation.
    tokens
        Tokens of a window.
    test
        Windows that the model is judged by.
    validation
        Further windows, to choose by.
    windows
        Most windows in all; the rest of the text is left out.
    seed
        Chooses which.
    """

    task: Literal["next-token"] = Field(default="next-token", exclude=True)
    file: str | None = None
    tokens: int = Field(default=128, ge=2)
    test: Count = 100
    validation: Count = 50
    windows: int = Field(default=4000, ge=30)
    seed: Seed = 0


class ImageData(Part):
    """A folder that holds a folder of images for each class.

    Parameters
    ----------
    folder
        Its folders are named after the classes.
    test
        Images that the model is judged by.
    validation
        Further images, to choose by.
    seed
        Chooses which; what is left is to learn from, without labels.
    """

    task: Literal["images"] = Field(default="images", exclude=True)
    folder: str = Field(min_length=1)
    test: Count = 200
    validation: Count = 100
    seed: Seed = 0


class MatchData(Part):
    """Inputs on which the model is to say what the dense one says: given ones, or generated.

    Parameters
    ----------
    file
        ``.npz`` or ``.safetensors`` with one array an input of the model, by name, items first. Null to generate them: passages of
        the running Python's documentation for models with a tokenizer, else random tokens or normal noise.
    shape
        Shape of one item, where nothing else says what a plain module takes.
    test
        Items that the model is judged by.
    validation
        Further items, to choose by.
    items
        Items in all, where they are generated.
    tokens
        Tokens of an item at most.
    seed
        Of what is generated, and of the order.
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
            raise ValueError("give file or shape, not both: the file's arrays have shapes")
        return self


TASKS: dict[str, type[Part]] = {
    "retrieval": RetrievalData,
    "classification": ClassificationData,
    "regression": RegressionData,
    "next-token": TextData,
    "images": ImageData,
    "match": MatchData,
}
"""The data of each task, by the task's name."""


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
"""One of `TASKS`: a recipe puts its task inside before the rest is read."""
