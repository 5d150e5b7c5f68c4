"""Checkpoints of a training run: one safetensors file, replaced in one step, so that a kill at any instant leaves a whole one.

Tensors are the model's parameters and buffers, the optimizer's moments and the dense values behind dynamic masks, all of them whole, so
that a run on several processes can go on in one. The rest, JSON in the file's metadata, is the step reached, the losses so far, the
patterns of the masks, and hashes of what the run was given. No random state is stored: each step seeds itself.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import ArgumentError, FormatError
from ..pruning import local, own_part, spread_like, whole
from ..records import replacing
from .distributed import Ranks
from .sparsifier import Sparsifier

__all__ = ["Checkpoint", "Snapshot", "State", "restore_", "save", "write_atomically"]

_KINDS = ("dense", "sums")
"""The tensors by weight name in the state of a sparsifier."""

_KEY = "tilewright_recovery"
_VERSION = 2


@dataclass(frozen=True)
class Checkpoint:
    """Where a training run saves itself, and how often.

    Parameters
    ----------
    path
        The file. If it exists, the run goes on from it.
    every
        Steps between two saves.
    seconds
        Also save when this much time has passed since the last; None to count steps only.
    """

    path: Path | str
    every: int = 50
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.every < 1 or (self.seconds is not None and self.seconds <= 0):
            raise ArgumentError(
                f"a checkpoint is saved every 1 or more steps or some seconds; got {self.every} steps and {self.seconds} seconds"
            )
        if Path(self.path).is_dir():
            raise ArgumentError(f"the checkpoint {self.path} is a folder; it must be a file")


@dataclass(frozen=True)
class State:
    """What a checkpoint holds beside tensors.

    Parameters
    ----------
    step
        Steps done.
    losses
        One a step.
    inputs
        Hashes by name of what the run was given; a run with others may not go on from here.
    """

    step: int
    losses: tuple[float, ...]
    inputs: Mapping[str, str]


class Snapshot:
    """What of a run is saved: a model, its optimizer, and what prunes it."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, sparsifier: Sparsifier | None) -> None:
        self.model, self.optimizer, self.sparsifier = model, optimizer, sparsifier

    def take(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return full copies of all tensors by name, and the rest of the method's state. With sharded weights every process must call."""
        found = {f"model.{name}": tensor for name, tensor in self._named()}
        moments: Mapping[int, Mapping[str, Any]] = self.optimizer.state_dict()["state"]
        for index, values in moments.items():
            found |= {f"optimizer.{index}.{key}": value for key, value in values.items() if value is not None}
        method = {} if self.sparsifier is None else self.sparsifier.state_dict()
        for kind in _KINDS:
            found |= {f"{kind}.{name}": value for name, value in method.pop(kind, {}).items()}
        return {name: whole(tensor).detach().cpu().clone().contiguous() for name, tensor in found.items()}, method

    def restore_(self, path: Path, tensors: Mapping[str, Tensor], method: Mapping[str, Any]) -> None:
        """Put saved tensors back.

        Raises
        ------
        FormatError
            If they are not of this model. Nothing is changed then.
        """
        own = {f"model.{name}": tensor for name, tensor in self._named()}
        wrong = [name for name, tensor in own.items() if name not in tensors or tensors[name].shape != tensor.shape]
        if wrong:
            raise FormatError(
                f"the checkpoint {path} has no {wrong[0].removeprefix('model.')} of this model's shape; "
                "remove the file to begin anew"
            )
        with torch.no_grad():
            for name, tensor in own.items():
                local(tensor).copy_(own_part(tensors[name].to(tensor.device), tensor))
        self._restore_moments(tensors)
        if self.sparsifier is not None:
            self.sparsifier.load_state_dict({**method, **{kind: _under(kind, tensors) for kind in _KINDS}})

    def _restore_moments(self, tensors: Mapping[str, Tensor]) -> None:
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _under("optimizer", tensors).items():
            index, key = name.split(".", 1)
            parameter = parameters[int(index)]
            alike = tensor.shape == parameter.shape and tensor.ndim > 0
            moments.setdefault(int(index), {})[key] = spread_like(tensor, parameter) if alike else tensor
        self.optimizer.load_state_dict({"state": moments, "param_groups": self.optimizer.state_dict()["param_groups"]})

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        """Every parameter and buffer once, tied ones under their first name."""
        yield from self.model.named_parameters()
        yield from self.model.named_buffers()


def save(path: Path, state: State, snapshot: Snapshot, ranks: Ranks) -> None:
    """Write a checkpoint beside the last one, then take its place. The first process writes; all must call.

    Raises
    ------
    OSError
        If it cannot be written. The last checkpoint is then as it was.
    """
    tensors, method = snapshot.take()
    body = {"version": _VERSION, "step": state.step, "losses": state.losses, "inputs": dict(state.inputs)}
    error: Exception | None = None
    if ranks.rank == 0:
        try:
            write_atomically(path, tensors, {_KEY: json.dumps({**body, "method": method})})
        except Exception as failure:
            # safetensors reports a full disk as an error of its own.
            error = OSError(f"the checkpoint of step {state.step} cannot be written to {path}: {failure}")
            error.__cause__ = failure
    ranks.agree(error, next(snapshot.model.parameters()).device)


def write_atomically(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file so that at any instant there is the old one or the new one."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        save_file(dict(tensors), file, metadata)


def restore_(path: Path, inputs: Mapping[str, str], snapshot: Snapshot) -> State | None:
    """Put a checkpoint into a run; None, and nothing changed, if there is no such file.

    Raises
    ------
    FormatError
        If the file is no whole checkpoint of this model.
    ArgumentError
        If the run was given other inputs than the one that wrote it.
    """
    if not path.exists():
        return None
    state, method, tensors = _read(path)
    different = [name for name, value in inputs.items() if state.inputs.get(name) != value]
    if different:
        raise ArgumentError(
            f"the checkpoint {path} belongs to a run with other {' and '.join(different)}; "
            "give it what it began with, or remove the file to begin anew"
        )
    snapshot.restore_(path, tensors, method)
    return state


def _read(path: Path) -> tuple[State, dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            body = json.loads((file.metadata() or {})[_KEY])
            if body["version"] != _VERSION:
                raise FormatError(
                    f"the checkpoint {path} is of version {body['version']}, and this build reads {_VERSION}"
                )
            state = State(int(body["step"]), tuple(float(loss) for loss in body["losses"]), dict(body["inputs"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            return state, dict(body["method"]), tensors
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(
            f"{path} is not a whole checkpoint of a training run ({error}); remove it to begin anew"
        ) from error


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
