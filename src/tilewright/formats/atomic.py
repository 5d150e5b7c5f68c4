"""Putting a set of files into a directory as one step: all of them, or none.

Everything that can run out of space or time happens first, in a staging folder inside the directory, and is flushed to the
disk. What remains are renames, in an order that leaves no moment at which old and new could be taken for one checkpoint: the
old ``config.json`` leaves first, the new one arrives last, and a directory without it is no checkpoint. An exception among
the renames, Ctrl-C included, undoes them in reverse, so the earlier checkpoint is back. A kill or a power cut among them
(microseconds, no data is moved) leaves no ``config.json``; the earlier files are then in ``.tilewright-*/old``.

Renaming the whole directory instead would leave not even that gap, but it fails on mount points, pulls the directory away
under processes that work in it, and has to carry over files that are not ours.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["staged"]

_PREFIX = ".tilewright-"


@contextmanager
def staged(directory: Path, *, last: str, obsolete: Callable[[str], bool]) -> Iterator[Path]:
    """Yield an empty folder; what the block puts there replaces its namesakes in `directory` when the block ends.

    Parameters
    ----------
    directory
        Where the files go; made if missing, and removed again on failure if this call made it.
    last
        The file whose presence makes the others count. The old one leaves first, the new one arrives last.
    obsolete
        Tells which files of the directory belong to the earlier set and go, whether replaced or not.
    """
    made = _make(directory)
    done = False
    try:
        staging = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=directory))
        try:
            new, old = staging / "new", staging / "old"
            new.mkdir()
            old.mkdir()
            yield new
            _flush_tree(new)
            _commit(directory, new, old, last, obsolete)
            done = True
        finally:
            _remove(staging)
    finally:
        if not done:
            _unmake(made)


def _remove(folder: Path) -> None:
    """Remove a folder, also when Ctrl-C comes a second time."""
    try:
        shutil.rmtree(folder)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if not isinstance(error, OSError):
            raise


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


def _commit(directory: Path, new: Path, old: Path, last: str, obsolete: Callable[[str], bool]) -> None:
    arriving = sorted(path.relative_to(new) for path in new.rglob("*") if path.is_file() and path != new / last)
    leaving = {Path(last), *arriving} | {Path(path.name) for path in directory.iterdir() if obsolete(path.name)}
    moves: list[tuple[Path, Path]] = []
    made: list[Path] = []
    try:
        for name in sorted(leaving, key=lambda name: (name != Path(last), name)):
            if os.path.lexists(directory / name):
                (old / name).parent.mkdir(parents=True, exist_ok=True)
                _move(directory / name, old / name, moves)
            if name == Path(last):
                _flush(directory)  # gone for good before any of its data changes
        for name in arriving:
            made += reversed(_make((directory / name).parent))
            _move(new / name, directory / name, moves)
        _flush(directory)
        _move(new / last, directory / last, moves)
        _flush(directory)
    except BaseException:
        for source, target in reversed(moves):
            if os.path.lexists(target) and not os.path.lexists(source):
                os.rename(target, source)
        _unmake(made[::-1])
        raise


def _move(source: Path, target: Path, moves: list[tuple[Path, Path]]) -> None:
    """Rename, noted beforehand so that an interruption in between is undone as well."""
    moves.append((source, target))
    os.rename(source, target)


def _flush_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        _flush(path)
    _flush(folder)


def _flush(path: Path) -> None:
    """Have the disk hold a file, or the names in a directory, before going on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
