"""Where a job may write: never over the model it starts from, and never beside another job at work."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..errors import ArgumentError
from ..formats import check_replaceable, is_checkpoint
from ..records import BusyError, locked

__all__ = ["alone", "check_output"]


def check_output(source: str | Path, *places: Path) -> None:
    """Refuse folders to write to where that would replace the model a job starts from, or weights of somebody else.

    Parameters
    ----------
    source
        Folder of the model; a name on the hub is no folder and nothing can overwrite it.
    places
        Folders that the job fills, each as a whole.

    Raises
    ------
    ArgumentError
        If a place is the source by whatever name, stands around it, or is a part of it that holds a model.
    FormatError
        If a place holds weights that this package did not write.
    """
    origin = Path(source).resolve()
    for place in places:
        target = place.resolve()
        if place.exists() and not place.is_dir():
            raise ArgumentError(f"{place} is a file; name a folder to write to")
        if origin.is_dir() and (target == origin or target in origin.parents):
            raise ArgumentError(
                f"{place} {'is' if target == origin else 'contains'} the folder of the dense model, {source}, and writing there would replace its "
                "only weights; choose another folder"
            )
        if origin in target.parents and (target / "config.json").exists() and not is_checkpoint(target):
            raise ArgumentError(
                f"{place} is a part of the dense model in {source}, and writing there would replace it; choose another folder"
            )
        check_replaceable(target)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a job's folder against other jobs until the block ends; on a file system without locks that is the user's care.

    Raises
    ------
    ArgumentError
        If another job is at work there.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder))
        except BusyError:
            raise ArgumentError(
                f"another job is at work in {folder}; wait until it has ended, or choose another folder"
            ) from None
        yield
