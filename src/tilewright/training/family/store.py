"""Storage of a growing family: in memory, or in a folder from which a killed run resumes.

In a folder, each file is replaced atomically, and the index names a level only once the level's files exist. Besides the members there
are ``best-N.safetensors``, the best model of level N with its dense values, from which the next level starts, and
``level-N.safetensors``, the checkpoint within a level.
"""

import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import ArgumentError, FormatError
from ..checkpoint import Checkpoint, write_atomically
from .members import INDEX, Member, read_members, write_members

__all__ = ["FolderStore", "Store"]

Best = tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]
"""Tensors of the model, dense values behind masks, and other facts, such as the metric."""

_KEY = "tilewright_level"


class Store:
    """Keeps a family in memory."""

    def __init__(self) -> None:
        self._best: dict[int, Best] = {}

    def members(self) -> tuple[Member, ...]:
        """Return the members of an earlier run."""
        return ()

    def checkpoint(self, n: int) -> Checkpoint | None:
        """Return the checkpoint of a level; None if it has none."""
        return None

    def keep(self, n: int, tensors: Mapping[str, Tensor], dense: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
        """Store the best model of a level so far."""
        self._best[n] = (dict(tensors), dict(dense), facts)

    def best(self, n: int) -> Best:
        """Return the best model of a level."""
        return self._best[n]

    def metric(self, n: int) -> float | None:
        """Return the metric of the best model so far; None if there is none."""
        metric: float | None = self._best[n][2]["metric"] if n in self._best else None
        return metric

    def place(self, n: int, m: int, tensors: Mapping[str, Tensor]) -> tuple[Path | None, Mapping[str, Tensor] | None]:
        """Store a member's tensors; return its file and None, or None and the tensors."""
        return None, tensors

    def finish(self, members: tuple[Member, ...]) -> None:
        """Record finished levels and drop the data that only they needed."""
        self._best = {n: best for n, best in self._best.items() if n == members[-1].n}


class FolderStore(Store):
    """Keeps a family in a folder.

    Raises
    ------
    ArgumentError
        If the folder holds the family of a different run.
    """

    def __init__(self, folder: Path, every: int, inputs: Callable[[], Mapping[str, str]]) -> None:
        self.folder, self.every = folder, every
        self.inputs = dict(inputs())
        self._members: tuple[Member, ...] = ()
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / INDEX).exists():
            self._members, stored = read_members(folder)
            mismatches = [name for name, value in self.inputs.items() if stored.get(name) != value]
            if mismatches:
                raise ArgumentError(
                    f"the family in {folder} belongs to a run that differs in its {' and '.join(mismatches)}; "
                    "pass the original arguments, or a different folder"
                )

    def members(self) -> tuple[Member, ...]:
        """Return the members of an earlier run in this folder."""
        return self._members

    def checkpoint(self, n: int) -> Checkpoint | None:
        """Return the checkpoint of a level; None if it has none."""
        return Checkpoint(self.folder / f"level-{n}.safetensors", every=self.every)

    def keep(self, n: int, tensors: Mapping[str, Tensor], dense: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
        """Store the best model of a level so far."""
        body = {f"model.{name}": value for name, value in tensors.items()}
        body |= {f"dense.{name}": value for name, value in dense.items()}
        write_atomically(self._file(n), body, {_KEY: json.dumps(facts)})

    def best(self, n: int) -> Best:
        """Return the best model of a level."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self._file(n), framework="pt") as file:
                facts = json.loads(file.metadata()[_KEY])
                body = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise FormatError(
                f"{self._file(n)} is not a complete model ({error}); remove the folder to start over"
            ) from error
        parts = {
            kind: {key.removeprefix(kind): value for key, value in body.items() if key.startswith(kind)}
            for kind in ("model.", "dense.")
        }
        return parts["model."], parts["dense."], facts

    def metric(self, n: int) -> float | None:
        """Return the metric of the best model so far; None if there is none."""
        metric: float | None = self.best(n)[2]["metric"] if self._file(n).exists() else None
        return metric

    def place(self, n: int, m: int, tensors: Mapping[str, Tensor]) -> tuple[Path | None, Mapping[str, Tensor] | None]:
        """Write a member's tensors; return its file and None."""
        file = self.folder / ("dense.safetensors" if n == m else f"{n}-of-{m}.safetensors")
        write_atomically(file, tensors, {"format": "pt"})
        return file, None

    def finish(self, members: tuple[Member, ...]) -> None:
        """Add finished levels to the index; remove the files that only they needed."""
        write_members(self.folder, members, self.inputs)
        for member in members:
            with contextlib.suppress(FileNotFoundError):
                (self.folder / f"level-{member.n}.safetensors").unlink()
        for member in members[:-1]:
            with contextlib.suppress(FileNotFoundError):
                self._file(member.n).unlink()

    def _file(self, n: int) -> Path:
        return self.folder / f"best-{n}.safetensors"
