"""Putting a set of files into a directory as one step: all of them, or none.

Everything that can run out of space or time happens first, in a staging folder inside the directory, and is flushed to the
disk. What remains are renames, in an order that leaves no moment at which old and new could be taken for one checkpoint: the
old ``config.json`` leaves first, the new one arrives last, and a directory without it is no checkpoint. An exception among
the renames, Ctrl-C included, undoes them in reverse, so the earlier checkpoint is back.

A kill or a power cut among them cannot undo. So before the first one a file in the staging folder says what is about to move,
and the next process that opens the directory or writes to it carries on from there (`complete`): the new files are all on the
disk by then. The directory is locked meanwhile, so that two writers never mix their files, and so that it is known whose staging
folders are left by the dead: those of any process that does not hold the lock.

Renaming the whole directory instead would leave not even that gap, but it fails on mount points, pulls the directory away
under processes that work in it, and has to carry over files that are not ours.
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
"""In a staging folder: the renames are under way, and what they are."""

_PATIENCE = 30.0
"""Seconds a reader waits for a writer that is at its renames; they take milliseconds."""


@contextmanager
def staged(
    directory: Path, *, last: str, obsolete: Callable[[str], bool], check: Callable[[], None] = lambda: None
) -> Iterator[Path]:
    """Yield an empty folder; what the block puts there replaces its namesakes in `directory` when the block ends.

    Parameters
    ----------
    directory
        Where the files go; made if missing, and removed again on failure if this call made it.
    last
        The file whose presence makes the others count. The old one leaves first, the new one arrives last.
    obsolete
        Tells which files of the directory belong to the earlier set and go, whether replaced or not.
    check
        Called once the directory is ours alone; what it raises passes through, and nothing was changed.

    Raises
    ------
    FormatError
        If another process is writing to the directory.
    OSError
        If the files cannot be written; the directory is then as it was.
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
    """Carry on the renames of a writer that was killed among them, and remove what dead writers left; usually there is nothing to do.

    Where the file system has no locks the dead cannot be told from the living: nothing is touched there, and the message says what
    whoever knows better can do by hand.

    Raises
    ------
    FormatError
        If `last` is missing because of such a writer and that cannot be mended from here, or a living one stays at its renames for long.
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
                else "on a file system without locks, which could tell the dead from the living"
            )
            break
        except BusyError:
            if not begun:
                return
            if time.monotonic() > limit:
                raise FormatError(
                    f"{directory} is being replaced by another process; wait until it has ended and open it again"
                ) from None
            time.sleep(0.01)
        except OSError as error:
            reason = f"which cannot be changed from here ({error.strerror or error})"
            break
    else:
        return
    if not (directory / last).exists() and any(map(_is_begun, _staging_folders(directory))):
        raise FormatError(
            f"{directory} has no {last}: it is being replaced, or a writer was killed while it replaced it, {reason}. Open it once as its "
            f"owner, or, if no writer is alive, move the files in {folders[0].name}/new into it, {last} last"
        )


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Hold the directory against other writers, with everything settled that the dead left."""
    with ExitStack() as stack:
        try:
            held = stack.enter_context(locked(directory))
        except BusyError:
            raise FormatError(
                f"the checkpoint {directory} cannot be written: another process is writing to this folder; wait until it has ended, or "
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
    """Complete what was begun and remove the staging folders, all of them of dead writers: the directory is locked by the caller."""
    for folder in _staging_folders(directory):
        if folder.lstat().st_uid != os.geteuid():  # a stranger's renames are not ours to carry out
            continue
        if _is_begun(folder):
            _carry_on(directory, folder)
        shutil.rmtree(folder, ignore_errors=True)


def _carry_on(directory: Path, folder: Path) -> None:
    """Do the rest of a killed writer's renames; being killed in here as well changes nothing."""
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
    """Return the names of one part; refuse any that would lead out of the directory, which may come from anywhere."""
    names = body.get(part)
    if not isinstance(names, list) or (part == "last" and len(names) != 1):
        raise FormatError(f"{new.parent / _BEGUN}: {part} is {show(names)}, and a list of names is expected; remove it")
    for name in names:
        path = PurePosixPath(name) if isinstance(name, str) else PurePosixPath("/")
        plain = path.parts and not path.is_absolute() and ".." not in path.parts and "\0" not in str(path)
        above = [new, *(base / parent for base in (directory, new) for parent in path.parents[:-1])] if plain else []
        if not plain or any(folder.is_symlink() for folder in above):
            raise FormatError(f"{new.parent / _BEGUN}: the name {show(name)} leads out of the folder; remove it")
    return names


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _make(directory: Path) -> list[Path]:
    """Make a directory and its missing parents; return those made, innermost first."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    return missing


def _unmake(made: list[Path]) -> None:
    for path in made:
        try:
            path.rmdir()
        except OSError:  # something else has arrived in it meanwhile: not ours to remove
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
                flush(directory)  # gone for good before any of its data changes
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
    """Take back that renames are under way, before the staging folder is taken apart."""
    (folder / _BEGUN).unlink(missing_ok=True)
    flush(folder)


def _move(source: Path, target: Path, moves: list[tuple[Path, Path]]) -> None:
    """Rename, noted beforehand so that an interruption in between is undone as well."""
    moves.append((source, target))
    os.rename(source, target)


def _flush_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        flush(path)
    flush(folder)
