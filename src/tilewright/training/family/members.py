"""`Family`: models of one network at falling density, to compare and to pick from."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ...errors import ArgumentError, FormatError
from ...formats import disk_bytes, pack
from ...patterns import Pattern, as_matrix, parse
from ...pruning import load_masked_, masks_of, patterns_of, prunable, remove_masks_
from ...records import Report, write_whole

__all__ = ["INDEX", "Family", "Member", "model_bytes", "read_members", "write_members"]

INDEX = "family.json"
_VERSION = 1


@dataclass(frozen=True)
class Member:
    """One model of a family.

    Parameters
    ----------
    n, m
        Its pattern, n:m; ``n == m`` is the dense model that the family comes from.
    patterns
        By weight name, as text. Empty for the dense model.
    density
        Kept over all elements of the weights that are pruned, counted from the masks.
    steps
        Optimizer steps spent on this level.
    loss
        Mean training loss over the last tenth of the level's steps; None for the dense model.
    metric
        What ``evaluate`` gave; None if there was no such thing.
    bytes
        What the model takes on disk, packed.
    file
        Where its tensors are; None if they are in memory.
    state
        Its tensors; None if they are in a file.
    """

    n: int
    m: int
    patterns: Mapping[str, str]
    density: float
    steps: int
    loss: float | None
    metric: float | None
    bytes: int
    file: Path | None = None
    state: Mapping[str, Tensor] | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """``"2:4"``, ``"dense"``."""
        return "dense" if self.n == self.m else f"{self.n}:{self.m}"

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of its `state_dict`, masks included.

        Raises
        ------
        FormatError
            If its file is gone or damaged.
        """
        if self.state is not None:
            return dict(self.state)
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        assert self.file is not None
        try:
            return load_file(self.file)
        except (OSError, SafetensorError) as error:
            raise FormatError(f"the member {self.name} cannot be read from {self.file}: {error}") from error


@dataclass(frozen=True)
class Family:
    """The models of one run of `inherit_`, densest first.

    Parameters
    ----------
    members
        The dense model and one for each level.
    """

    members: tuple[Member, ...]

    @staticmethod
    def load(folder: Path | str) -> "Family":
        """Return the family that `inherit_` has left in a folder, as far as it has got.

        Raises
        ------
        FormatError
            If there is none, or its index is damaged.
        """
        return Family(read_members(Path(folder))[0])

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, n: int) -> Member:
        """Return the member that keeps n of every m."""
        for member in self.members:
            if member.n == n:
                return member
        raise ArgumentError(f"the family has no member with n = {n}; it has {', '.join(m.name for m in self.members)}")

    def pick(
        self,
        *,
        metric: float | None = None,
        cost: float | None = None,
        by: Callable[[Member], float] | None = None,
    ) -> Member:
        """Return the cheapest member that is good enough, or the best one that is cheap enough.

        Parameters
        ----------
        metric
            The least metric.
        cost
            The greatest cost.
        by
            Cost of a member; its bytes where not given. A latency measured elsewhere, for instance.

        Returns
        -------
        Member
            With `metric` the cheapest of those that qualify; otherwise the one of the highest metric.

        Raises
        ------
        ArgumentError
            If no member qualifies, or there are no metrics to compare.
        """
        price = by or (lambda member: float(member.bytes))
        if any(member.metric is None for member in self.members):
            raise ArgumentError("the members have no metric to pick by; give inherit_ an evaluate function")
        good = [m for m in self.members if metric is None or _metric(m) >= metric]
        fine = [m for m in good if cost is None or price(m) <= cost]
        if not fine:
            best, least = max(self.members, key=_metric), min(self.members, key=price)
            raise ArgumentError(
                f"no member has a metric of {metric if metric is not None else 'any size'} and a cost of at most "
                f"{cost if cost is not None else 'any size'}; the best is {best.name} with {best.metric:g}, the cheapest "
                f"{least.name} with a cost of {price(least):g}"
            )
        if metric is not None:
            return min(fine, key=lambda member: (price(member), -_metric(member)))
        return max(fine, key=lambda member: (_metric(member), -price(member)))

    def load_(self, model: nn.Module, member: Member) -> None:
        """Put a member into a model built like the one it came from, with its masks.

        Raises
        ------
        FormatError
            If the member's file is damaged, or the model is another one.
        """
        tensors = member.tensors()
        remove_masks_(model)
        if member.patterns:
            load_masked_(model, tensors, dict(member.patterns))
        else:
            model.load_state_dict(tensors)

    def report(self) -> Report:
        """Return a table: one row a member."""
        columns = ("density", "steps", "loss", "metric", "bytes")
        rows = [{"member": member.name, **{c: getattr(member, c) for c in columns}} for member in self.members]
        return Report(
            "family", tuple(rows), {"members": len(rows), "steps": sum(member.steps for member in self.members)}
        )


def model_bytes(model: nn.Module) -> int:
    """Return what a model takes on disk: masked weights packed, everything else as it is."""
    masks, patterns = masks_of(model), patterns_of(model)
    total = sum(p.numel() * p.element_size() for name, p in model.named_parameters() if name not in masks)
    total += sum(b.numel() * b.element_size() for name, b in model.named_buffers() if not _is_mask(name, masks))
    for weight in prunable(model):
        if weight.name in masks:
            mask = as_matrix(masks[weight.name].cpu().numpy(), weight.layout)
            values = as_matrix(weight.tensor.detach().cpu().float().numpy(), weight.layout)
            total += _packed_bytes(values, patterns[weight.name], mask) * weight.tensor.element_size() // 4
    return total


def write_members(folder: Path, members: tuple[Member, ...], inputs: Mapping[str, str]) -> None:
    """Write the index of a family so that at any instant there is the old one or the new one."""
    rows = [
        {k: v for k, v in vars(member).items() if k != "state"} | {"file": member.file.name if member.file else None}
        for member in members
    ]
    body = {"version": _VERSION, "inputs": dict(inputs), "members": rows}
    write_whole(folder / INDEX, json.dumps(body, indent=1))


def read_members(folder: Path) -> tuple[tuple[Member, ...], dict[str, str]]:
    """Return the members in a folder and the hashes of what their run was given."""
    path = folder / INDEX
    body: Any
    try:
        body = json.loads(path.read_text())
        if body["version"] != _VERSION:
            raise FormatError(f"{path} is of version {body['version']}, and this build reads {_VERSION}")
        members = [Member(**{**row, "file": folder / row["file"]}) for row in body["members"]]
        for member in members:
            for text in member.patterns.values():
                parse(text)
        return tuple(members), dict(body["inputs"])
    except FileNotFoundError as error:
        raise FormatError(f"there is no family in {folder}: it has no {INDEX}") from error
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"{path} is not the index of a family ({error}); remove the folder to begin anew") from error


def _metric(member: Member) -> float:
    assert member.metric is not None
    return member.metric


def _is_mask(name: str, masks: Mapping[str, Tensor]) -> bool:
    return name.endswith("_mask") and name.removesuffix("_mask") in masks


def _packed_bytes(values: Any, pattern: Pattern, mask: Any) -> int:
    return disk_bytes(pack(values, pattern, mask))
