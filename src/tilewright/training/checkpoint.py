"""Checkpoints of a recovery: one safetensors file, replaced in one step, so that a kill at any instant leaves a whole one.

Tensors are the student's parameters and buffers and the optimizer's moments. The rest, JSON in the file's metadata, is the step
reached, the losses so far, and hashes of what the run was given. No random state is stored: each step seeds itself.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import ArgumentError, FormatError

__all__ = ["Checkpoint", "State", "restore_", "save"]

_KEY = "tilewright_recovery"
_VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """Where a recovery saves itself, and how often.

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


def save(path: Path, state: State, student: nn.Module, optimizer: Optimizer) -> None:
    """Write a checkpoint beside the last one, then take its place.

    Raises
    ------
    OSError
        If it cannot be written. The last checkpoint is then as it was.
    """
    from safetensors.torch import save_file

    body = {"version": _VERSION, "step": state.step, "losses": state.losses, "inputs": dict(state.inputs)}
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in _tensors(student, optimizer)}
    temporary = path.with_name(f".{path.name}.partial")  # one name: what a killed run left is overwritten
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, temporary, {_KEY: json.dumps(body)})
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except Exception as error:
        # safetensors reports a full disk as an error of its own.
        raise OSError(f"the checkpoint of step {state.step} cannot be written to {path}: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def restore_(path: Path, inputs: Mapping[str, str], student: nn.Module, optimizer: Optimizer) -> State | None:
    """Put a checkpoint into student and optimizer; None, and nothing changed, if there is no such file.

    Raises
    ------
    FormatError
        If the file is no whole checkpoint of this model.
    ArgumentError
        If the run was given other inputs than the one that wrote it.
    """
    if not path.exists():
        return None
    state, tensors = _read(path)
    different = [name for name, value in inputs.items() if state.inputs.get(name) != value]
    if different:
        raise ArgumentError(
            f"the checkpoint {path} belongs to a run with other {' and '.join(different)}; "
            "give it what it began with, or remove the file to begin anew"
        )
    own = {f"student.{name}": tensor for name, tensor in _named_tensors(student)}
    wrong = [name for name, tensor in own.items() if name not in tensors or tensors[name].shape != tensor.shape]
    if wrong:
        raise FormatError(
            f"the checkpoint {path} has no {wrong[0]} of this model's shape; remove the file to begin anew"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            moments.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return state


def _read(path: Path) -> tuple[State, dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            body = json.loads((file.metadata() or {})[_KEY])
            if body["version"] != _VERSION:
                raise FormatError(
                    f"the checkpoint {path} is of version {body['version']}, and this build reads {_VERSION}"
                )
            state = State(int(body["step"]), tuple(float(loss) for loss in body["losses"]), dict(body["inputs"]))
            return state, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(
            f"{path} is not a whole checkpoint of a recovery ({error}); remove it to begin anew"
        ) from error


def _tensors(student: nn.Module, optimizer: Optimizer) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in _named_tensors(student):
        yield f"student.{name}", tensor
    moments: Mapping[int, Mapping[str, Any]] = optimizer.state_dict()["state"]
    for index, values in moments.items():
        for key, value in values.items():
            yield f"optimizer.{index}.{key}", value


def _named_tensors(student: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer once, tied ones under their first name."""
    yield from student.named_parameters()
    yield from student.named_buffers()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
