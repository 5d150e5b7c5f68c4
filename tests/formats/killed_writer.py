"""Overwrites a checkpoint in child processes, each killed one system call later than the one before.

    python tests/formats/killed_writer.py FOLDER old|nothing

Prints a line per child: its exit code, 0 if it completed, and what the folder then contains.
"""

import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from samples import packed

from tilewright.errors import FormatError
from tilewright.formats import StoredWeight, read_checkpoint, write_checkpoint

OLD = {"w": StoredWeight(packed("2:4", (4, 8), 1))}
NEW = {"w": StoredWeight(packed("1:4", (4, 8), 2)), "v": StoredWeight(packed("any@50%", (4, 8), 2))}
OLD_DENSE, NEW_DENSE = ({"bias": np.full(4, value, dtype=np.float32)} for value in (1, 2))
CALLS = ("open", "close", "mkdir", "rename", "replace", "unlink", "rmdir", "fsync", "scandir", "lstat")


def die_at(call: int) -> None:
    """End this process before its n-th system call among those that writing uses."""
    left = call

    def wrap(function):
        def counted(*args, **kwargs):
            nonlocal left
            left -= 1
            if left == 0:
                os._exit(9)
            return function(*args, **kwargs)

        return counted

    for name in CALLS:
        setattr(os, name, wrap(getattr(os, name)))


def write_old(folder: Path) -> None:
    """Write the old checkpoint: two shards, one of which the new one also has."""
    write_checkpoint(
        folder, OLD, OLD_DENSE, {"is": "old"}, extra_files={"deep/tokenizer.json": b"old"}, max_shard_bytes=40
    )


def write_new(folder: Path) -> None:
    """Write the new checkpoint."""
    write_checkpoint(
        folder,
        NEW,
        NEW_DENSE,
        {"is": "new"},
        extra_files={"deep/tokenizer.json": b"new", "a": b"new"},
        max_shard_bytes=100,
    )


def state(folder: Path) -> str:
    """Return what a folder contains: old, new, or a description of what is wrong."""
    try:
        checkpoint = read_checkpoint(folder)
    except FormatError as error:
        return "nothing" if not (folder / "config.json").exists() else f"broken: {error}"
    which = str(checkpoint.config["is"])
    tensors = {"old": OLD, "new": NEW}[which]
    good = checkpoint.weights.keys() == tensors.keys()
    good &= all((checkpoint.weights[name].packed.values == tensors[name].packed.values).all() for name in tensors)
    good &= checkpoint.dense["bias"].array()[0] == {"old": 1, "new": 2}[which]
    good &= (folder / "deep" / "tokenizer.json").read_text() == which
    good &= (folder / "a").exists() == (which == "new")
    return which if good else f"a mixture: {sorted(path.name for path in folder.rglob('*'))}"


def main() -> None:
    """Kill and inspect until a child completes."""
    folder, before = Path(sys.argv[1]), sys.argv[2]
    os.fsync = lambda _: (
        None
    )  # only a power cut would make a difference, and waiting for the disk would take most of the time
    code, call = -1, 0
    while code:
        call += 1
        shutil.rmtree(folder, ignore_errors=True)
        if before == "old":
            write_old(folder)
        child = os.fork()
        if not child:
            die_at(call)
            write_new(folder)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if (
            call % 2
        ):  # in half of the cases the next process is a reader, in the other half a writer of the same checkpoint
            found = state(folder)
        else:
            write_new(folder)
            found = f"then {state(folder)}"
        scraps = [path.name for path in folder.glob(".tilewright-*")]
        print(code, found + (f", and {scraps}" if scraps else ""), flush=True)


if __name__ == "__main__":
    main()
