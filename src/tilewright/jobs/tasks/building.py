"""`build_task`: the task of a recipe, ready to judge; and `check_task`, everything about it that can be wrong without torch."""

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
    """Refuse a task that the model cannot do, and data that is missing or does not fit; takes milliseconds.

    Raises
    ------
    ArgumentError
        With what is wrong, and where.
    """
    decide(source, data.task)
    check_files(getattr(data, "file", None), getattr(data, "folder", None))
    if isinstance(data, ClassificationData | RegressionData):
        labelled(data, source)
    if isinstance(data, ImageData) and source.kind != "module":
        for name in images_in(Path(data.folder)):
            class_of(name, source.config, f"the folder {name}")


def build_task(data: Any, source: Source, model: Any) -> "Task":
    """Return the task that data describes, for a model and copies of it.

    Parameters
    ----------
    data
        Of a recipe: one of `TASKS`.
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
