"""`build_task`: build the task of a recipe; and `check_task`: check everything about it that does not need torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..recipe.data import ClassificationData, ImageData, MatchData, RegressionData, RetrievalData, TextData
from ..sources import Source
from .deciding import check_files, decide
from .files import images_in
from .labels import class_of, labelled

if TYPE_CHECKING:
    from .protocol import Task

__all__ = ["build_task", "check_task"]


def check_task(source: Source, data: Any) -> None:
    """Check that a model can do a task and that its data exists and fits; takes milliseconds.

    Parameters
    ----------
    source
        Where the model comes from.
    data
        `data` section of a recipe: an instance of one of `TASKS`.

    Raises
    ------
    ArgumentError
        If the task or the data does not fit; the message says what is wrong and where.
    """
    decide(source, data.task)
    check_files(getattr(data, "file", None), getattr(data, "folder", None))
    if isinstance(data, ClassificationData | RegressionData):
        labelled(data, source)
    if isinstance(data, ImageData) and source.kind != "module":
        for name in images_in(Path(data.folder)):
            class_of(name, source.config, f"the folder {name}")


def build_task(data: Any, source: Source, model: Any) -> "Task":
    """Return the task that `data` describes, for a model and copies of it.

    Parameters
    ----------
    data
        `data` section of a recipe: an instance of one of `TASKS`.
    source
        Where the model comes from.
    model
        The dense model.
    """
    check_task(source, data)
    match data:
        case RetrievalData():
            from .retrieval import Retrieval

            return Retrieval(data, model)
        case ClassificationData():
            from .texts import Classification

            return Classification(data, source, model)
        case RegressionData():
            from .texts import Regression

            return Regression(data, source, model)
        case TextData():
            from .language import NextToken

            return NextToken(data, source, model)
        case ImageData():
            from .images import Images

            return Images(data, source, model)
        case _:
            from .matching import Match

            assert isinstance(data, MatchData)
            return Match(data, source, model)
