"""Checkpoints of a training run: one safetensors file, replaced atomically, so that a kill at any time leaves a complete one.

Its tensors are the model's parameters and buffers, the optimizer's moments and the dense values behind dynamic masks, all unsharded,
so that a distributed run can be resumed by a single process. The rest is JSON in the file's metadata: the step reached, the losses
so far, the patterns of the masks, and hashes of the run's inputs. No random state is stored: each step seeds itself.
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
"""Entries of a sparsifier's state that hold tensors by weight name."""

_KEY = "tilewright_recovery"
_VERSION = 2


@dataclass(frozen=True)
class Checkpoint:
    """Where a training run saves its state, and how often.

    Parameters
    ----------
    path
        The checkpoint file. If it exists, the run resumes from it.
    every
        Number of steps between saves. Default: 50.
    seconds
        Also save once this many seconds have passed since the last save. Default: save by steps only.

    Raises
    ------
    ArgumentError
        If an interval is not positive, or the path is a folder.
    """

    path: Path | str
    every: int = 50
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.every < 1 or (self.seconds is not None and self.seconds <= 0):
            raise ArgumentError(
                f"every must be 1 or more and seconds above 0 or None; got every={self.every}, seconds={self.seconds}"
            )
        if Path(self.path).is_dir():
            raise ArgumentError(f"the checkpoint {self.path} is a folder; it must be a file")


@dataclass(frozen=True)
class State:
    """What a checkpoint holds besides tensors.

    Parameters
    ----------
    step
        Number of steps done.
    losses
        Loss of each step.
    inputs
        Hashes of the run's inputs, by name. A run with different inputs cannot resume from the checkpoint.
    """

    step: int
    losses: tuple[float, ...]
    inputs: Mapping[str, str]


class Snapshot:
    """The parts of a run that are saved: the model, its optimizer and its sparsifier."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, sparsifier: Sparsifier | None) -> None:
        self.model, self.optimizer, self.sparsifier = model, optimizer, sparsifier

    def take(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return unsharded copies of all tensors by name, and the rest of the sparsifier's state. Every process must call."""
        tensors = {f"model.{name}": tensor for name, tensor in self._named()}
        moments: Mapping[int, Mapping[str, Any]] = self.optimizer.state_dict()["state"]
        for index, values in moments.items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in values.items() if value is not None}
        method = {} if self.sparsifier is None else self.sparsifier.state_dict()
        for kind in _KINDS:
            tensors |= {f"{kind}.{name}": value for name, value in method.pop(kind, {}).items()}
        return {name: whole(tensor).detach().cpu().clone().contiguous() for name, tensor in tensors.items()}, method

    def restore_(self, path: Path, tensors: Mapping[str, Tensor], method: Mapping[str, Any]) -> None:
        """Restore saved tensors.

        Raises
        ------
        FormatError
            If a tensor is missing or has a different shape than in this model, which is then unchanged.
        """
        current = {f"model.{name}": tensor for name, tensor in self._named()}
        misfits = [
            name for name, tensor in current.items() if name not in tensors or tensors[name].shape != tensor.shape
        ]
        if misfits:
            raise FormatError(
                f"the checkpoint {path} has no {misfits[0].removeprefix('model.')} of shape {list(current[misfits[0]].shape)}, "
                "which this model needs; remove the file to start over"
            )
        with torch.no_grad():
            for name, tensor in current.items():
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
            elementwise = tensor.shape == parameter.shape and tensor.ndim > 0
            moments.setdefault(int(index), {})[key] = spread_like(tensor, parameter) if elementwise else tensor
        self.optimizer.load_state_dict({"state": moments, "param_groups": self.optimizer.state_dict()["param_groups"]})

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every parameter and buffer once, tied ones under their first name."""
        yield from self.model.named_parameters()
        yield from self.model.named_buffers()


def save(path: Path, state: State, snapshot: Snapshot, ranks: Ranks) -> None:
    """Write a checkpoint and atomically replace the previous one. Rank 0 writes; every process must call.

    Raises
    ------
    OSError
        If it cannot be written. The previous checkpoint is then unchanged.
    """
    tensors, method = snapshot.take()
    body = {"version": _VERSION, "step": state.step, "losses": state.losses, "inputs": dict(state.inputs)}
    error: Exception | None = None
    if ranks.rank == 0:
        try:
            write_atomically(path, tensors, {_KEY: json.dumps({**body, "method": method})})
        except Exception as failure:
            # safetensors reports a full disk as its own error type.
            error = OSError(f"cannot write the checkpoint of step {state.step} to {path}: {failure}")
            error.__cause__ = failure
    ranks.agree(error, next(snapshot.model.parameters()).device)


def write_atomically(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file atomically: readers see either the old file or the new one."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        save_file(dict(tensors), file, metadata)


def restore_(path: Path, inputs: Mapping[str, str], snapshot: Snapshot) -> State | None:
    """Restore a run from a checkpoint and return its state; return None, without changes, if the file does not exist.

    Raises
    ------
    FormatError
        If the file is not a complete checkpoint of this model.
    ArgumentError
        If the run that wrote it had different inputs.
    """
    if not path.exists():
        return None
    state, method, tensors = _read(path)
    mismatches = [name for name, value in inputs.items() if state.inputs.get(name) != value]
    if mismatches:
        raise ArgumentError(
            f"the checkpoint {path} belongs to a run that differs in its {' and '.join(mismatches)}; "
            "pass the original arguments, or remove the file to start over"
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
                    f"the checkpoint {path} has version {body['version']}, but this build reads version {_VERSION}"
                )
            state = State(int(body["step"]), tuple(float(loss) for loss in body["losses"]), dict(body["inputs"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            return state, dict(body["method"]), tensors
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(
            f"{path} is not a complete checkpoint of a training run ({error}); remove it to start over"
        ) from error


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
