"""Where a job may write: never over the model it starts from, and never into a folder that another job is using."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..errors import ArgumentError
from ..formats import check_replaceable, is_checkpoint
from ..records import BusyError, locked

__all__ = ["alone", "check_output"]


def check_output(source: str | Path, *places: Path) -> None:
    """Refuse output folders whose replacement would destroy the source model, or weights that Tilewright did not write.

    Parameters
    ----------
    source
        Folder of the source model. A name on the hub is not a folder and cannot be overwritten.
    places
        Output folders, each of which the job replaces entirely.

    Raises
    ------
    ArgumentError
        If a folder is the source (under any path), contains it, or is a part of it that holds a model.
    FormatError
        If a folder holds weights that Tilewright did not write.
    """
    origin = Path(source).resolve()
    for place in places:
        target = place.resolve()
        if place.exists() and not place.is_dir():
            raise ArgumentError(f"{place} is a file; give a folder to write to")
        if origin.is_dir() and (target == origin or target in origin.parents):
            raise ArgumentError(
                f"{place} {'is' if target == origin else 'contains'} the folder of the dense model, {source}, and writing there would replace its "
                "only weights; choose another folder"
            )
        if origin in target.parents and (target / "config.json").exists() and not is_checkpoint(target):
            raise ArgumentError(
                f"{place} is part of the dense model in {source}, and writing there would replace it; choose another folder"
            )
        check_replaceable(target)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock a job's folder against other jobs inside a `with` block; on a file system without locks, nothing is locked.

    Raises
    ------
    ArgumentError
        If another job is using the folder.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder))
        except BusyError:
            raise ArgumentError(
                f"another job is using {folder}; wait until it has finished, or choose another folder"
            ) from None
        yield
