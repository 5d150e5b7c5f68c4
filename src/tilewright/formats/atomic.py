"""Replacing a set of files in a directory atomically: all of them or none.

Everything that can fail for lack of space or time happens first, in a staging folder inside the directory, and is flushed
to disk. Only renames remain, in an order in which old and new files can never be mistaken for one checkpoint: the old
``config.json`` is removed first, the new one is added last, and a directory without it is not a checkpoint. An exception
between the renames, including Ctrl-C, undoes them in reverse order and so restores the old checkpoint.

A kill or a power cut between the renames cannot undo them. Therefore a file in the staging folder first records what is
about to move, and the next process that opens the directory or writes to it finishes the job (see `complete`); the new
files are all on disk by then. The directory is locked meanwhile, so that two writers never mix their files, and so that
abandoned staging folders can be recognised: they are those of any process that does not hold the lock.

Renaming the whole directory would avoid even that gap, but it fails on mount points, moves the directory away from
processes that work in it, and would have to carry over files that do not belong to the checkpoint.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath

from ..errors import FormatError
from ..records import BusyError, flush, locked, staging, write_whole
from .text import parse_object, show

__all__ = ["complete", "staged"]

_PREFIX = ".tilewright-set-"
_BEGUN = "begun.json"
"""File in a staging folder that lists the renames; it exists while they are under way."""

_PATIENCE = 30.0
"""Seconds a reader waits for a writer's renames, which normally take milliseconds."""


@contextmanager
def staged(
    directory: Path, *, last: str, obsolete: Callable[[str], bool], check: Callable[[], None] = lambda: None
) -> Iterator[Path]:
    """Yield an empty folder; files written there replace those of the same name in `directory` when the block ends.

    Parameters
    ----------
    directory
        Destination; created if missing, and removed again on failure if this call created it.
    last
        Name of the file whose presence makes the set valid. The old one is removed first, the new one added last.
    obsolete
        Returns True for the name of a file that belongs to the old set; such files are removed even if not replaced.
    check
        Called once the directory is locked and before anything is changed; its exceptions are passed on. Default: no check.

    Raises
    ------
    FormatError
        If another process is writing to the directory.
    OSError
        If the files cannot be written; the directory is then unchanged.
    """
    made = _make(directory)
    done = False
    try:
        with _alone(directory):
            check()
            with staging(directory, _PREFIX) as folder:
                new, old = folder / "new", folder / "old"
                new.mkdir()
                old.mkdir()
                yield new
                _flush_tree(new)
                _commit(directory, folder, last, obsolete)
                done = True
    finally:
        if not done:
            _unmake(made)


def complete(directory: Path, *, last: str) -> None:
    """Finish the renames of a killed writer and remove the leftovers of dead ones; usually there is nothing to do.

    On file systems without locks, dead and running writers cannot be told apart. Nothing is touched there, and the error
    message says what to do by hand.

    Raises
    ------
    FormatError
        If `last` is missing because a writer was killed and this process cannot repair it, or a running writer takes too long.
    """
    limit = time.monotonic() + _PATIENCE
    while folders := _staging_folders(directory):
        begun = [folder for folder in folders if _is_begun(folder)]
        try:
            with locked(directory, patience=0) as held:
                if held:
                    _settle(directory)
            reason = (
                "of another user"
                if held
                else "on a file system without locks, where it cannot be known whether that writer still runs"
            )
            break
        except BusyError:
            if not begun:
                return
            if time.monotonic() > limit:
                raise FormatError(
                    f"{directory} is being replaced by another process; wait until it has finished and try again"
                ) from None
            time.sleep(0.01)
        except OSError as error:
            reason = f"which this process cannot repair ({error.strerror or error})"
            break
    else:
        return
    if not (directory / last).exists() and any(map(_is_begun, _staging_folders(directory))):
        raise FormatError(
            f"{directory} has no {last}: it is being replaced, or a writer was killed while replacing it, {reason}. Open it once as its "
            f"owner or, if no writer is running, move the files in {folders[0].name}/new into it, {last} last"
        )


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Lock the directory against other writers and clean up after dead ones."""
    with ExitStack() as stack:
        try:
            held = stack.enter_context(locked(directory))
        except BusyError:
            raise FormatError(
                f"the checkpoint {directory} cannot be written: another process is writing to this folder; wait until it has finished or "
                "choose another folder"
            ) from None
        if held:
            _settle(directory)
        yield


def _staging_folders(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    with os.scandir(directory) as entries:
        return sorted(
            Path(entry.path)
            for entry in entries
            if entry.name.startswith(_PREFIX) and entry.is_dir(follow_symlinks=False)
        )


def _is_begun(folder: Path) -> bool:
    return (folder / _BEGUN).is_file() and not (folder / _BEGUN).is_symlink()


def _settle(directory: Path) -> None:
    """Finish begun renames and remove the staging folders; the caller holds the lock, so all of them belong to dead writers."""
    for folder in _staging_folders(directory):
        if folder.lstat().st_uid != os.geteuid():  # never carry out another user's renames
            continue
        if _is_begun(folder):
            _carry_on(directory, folder)
        shutil.rmtree(folder, ignore_errors=True)


def _carry_on(directory: Path, folder: Path) -> None:
    """Do the rest of a killed writer's renames; being killed here too does no harm."""
    where, new = str(folder / _BEGUN), folder / "new"
    body = parse_object((folder / _BEGUN).read_bytes(), where)
    (last,), obsolete, arriving = (_names(body, part, directory, new) for part in ("last", "obsolete", "arriving"))
    if os.path.lexists(new / last):
        _discard(directory / last)
        flush(directory)
    for name in obsolete:
        _discard(directory / name)
    for name in arriving:
        if os.path.lexists(new / name):
            _discard(directory / name)
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(new / name, directory / name)
    flush(directory)
    if os.path.lexists(new / last):
        os.replace(new / last, directory / last)
        flush(directory)
    _unmark(folder)


def _names(body: Mapping[str, object], part: str, directory: Path, new: Path) -> list[str]:
    """Return the names of one part, rejecting any that point outside the directory: the file may not be trustworthy."""
    names = body.get(part)
    if not isinstance(names, list) or (part == "last" and len(names) != 1):
        raise FormatError(
            f"{new.parent / _BEGUN}: {part} must be a list of {'one name' if part == 'last' else 'names'}, got {show(names)}; remove the file"
        )
    for name in names:
        path = PurePosixPath(name) if isinstance(name, str) else PurePosixPath("/")
        plain = path.parts and not path.is_absolute() and ".." not in path.parts and "\0" not in str(path)
        above = [new, *(base / parent for base in (directory, new) for parent in path.parents[:-1])] if plain else []
        if not plain or any(folder.is_symlink() for folder in above):
            raise FormatError(
                f"{new.parent / _BEGUN}: the name {show(name)} points outside the folder; remove the file"
            )
    return names


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _make(directory: Path) -> list[Path]:
    """Create a directory and its missing parents; return those created, innermost first."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    return missing


def _unmake(made: list[Path]) -> None:
    for path in made:
        try:
            path.rmdir()
        except OSError:  # something else has been put into it meanwhile
            return


def _commit(directory: Path, folder: Path, last: str, obsolete: Callable[[str], bool]) -> None:
    new, old = folder / "new", folder / "old"
    arriving = sorted(path.relative_to(new) for path in new.rglob("*") if path.is_file() and path != new / last)
    gone = {Path(path.name) for path in directory.iterdir() if obsolete(path.name)} - {Path(last), *arriving}
    leaving = {Path(last), *arriving} | gone
    moves: list[tuple[Path, Path]] = []
    made: list[Path] = []
    body = {"last": [last], "obsolete": sorted(map(str, gone)), "arriving": [str(path) for path in arriving]}
    try:
        write_whole(folder / _BEGUN, json.dumps(body))
        for name in sorted(leaving, key=lambda name: (name != Path(last), name)):
            if os.path.lexists(directory / name):
                (old / name).parent.mkdir(parents=True, exist_ok=True)
                _move(directory / name, old / name, moves)
            if name == Path(last):
                flush(directory)  # on disk before any of its data changes
        for name in arriving:
            made += reversed(_make((directory / name).parent))
            _move(new / name, directory / name, moves)
        flush(directory)
        _move(new / last, directory / last, moves)
        flush(directory)
    except BaseException:
        for source, target in reversed(moves):
            if os.path.lexists(target) and not os.path.lexists(source):
                os.rename(target, source)
        _unmake(made[::-1])
        _unmark(folder)
        raise
    with suppress(OSError):
        _unmark(folder)


def _unmark(folder: Path) -> None:
    """Remove the record of renames, before the staging folder is deleted."""
    (folder / _BEGUN).unlink(missing_ok=True)
    flush(folder)


def _move(source: Path, target: Path, moves: list[tuple[Path, Path]]) -> None:
    """Rename, recording the move first so that an interruption in between is undone too."""
    moves.append((source, target))
    os.rename(source, target)


def _flush_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        flush(path)
    flush(folder)
