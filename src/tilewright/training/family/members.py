"""`Family`: models of one network at decreasing density, to compare and pick from."""

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
        The member's pattern n:m; ``n == m`` is the dense model that the family starts from.
    patterns
        Patterns by weight name, as text. Empty for the dense model.
    density
        Kept elements over all elements of the pruned weights, counted from the masks.
    steps
        Number of optimizer steps spent on this level.
    loss
        Mean training loss over the last tenth of the level's steps; None for the dense model.
    metric
        The result of ``evaluate``; None if `inherit_` was called without it.
    bytes
        Size of the packed model on disk, in bytes.
    file
        The file with the member's tensors; None if they are in memory.
    state
        The member's tensors by name; None if they are in a file.
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
        """The pattern as text, such as ``"2:4"``, or ``"dense"``."""
        return "dense" if self.n == self.m else f"{self.n}:{self.m}"

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the member's `state_dict`, including masks.

        Raises
        ------
        FormatError
            If the file is missing or damaged.
        """
        if self.state is not None:
            return dict(self.state)
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        assert self.file is not None
        try:
            return load_file(self.file)
        except (OSError, SafetensorError) as error:
            raise FormatError(f"cannot read the member {self.name} from {self.file}: {error}") from error


@dataclass(frozen=True)
class Family:
    """The models of one run of `inherit_`, densest first.

    Parameters
    ----------
    members
        The dense model and one member per level.
    """

    members: tuple[Member, ...]

    @staticmethod
    def load(folder: Path | str) -> "Family":
        """Return the family that `inherit_` wrote to a folder, with the levels finished so far.

        Raises
        ------
        FormatError
            If the folder holds no family, or its index is damaged.
        """
        return Family(read_members(Path(folder))[0])

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, n: int) -> Member:
        """Return the member that keeps n of every m."""
        for member in self.members:
            if member.n == n:
                return member
        raise ArgumentError(
            f"the family has no member with n={n}; its members are {', '.join(m.name for m in self.members)}"
        )

    def pick(
        self,
        *,
        metric: float | None = None,
        cost: float | None = None,
        by: Callable[[Member], float] | None = None,
    ) -> Member:
        """Return the cheapest member that is good enough, or the best member that is cheap enough.

        Parameters
        ----------
        metric
            Minimum metric. Default: no minimum.
        cost
            Maximum cost, in the unit of `by`. Default: no maximum.
        by
            A function that returns the cost of a member, such as a latency measured elsewhere. Default: its size in bytes.

        Returns
        -------
        Member
            If `metric` is given, the cheapest member that qualifies; otherwise the qualifying member with the highest metric.

        Raises
        ------
        ArgumentError
            If no member qualifies, or the members have no metrics.
        """
        price = by or (lambda member: float(member.bytes))
        if any(member.metric is None for member in self.members):
            raise ArgumentError("the members have no metric to pick by; call inherit_ with evaluate=...")
        members = [m for m in self.members if metric is None or _metric(m) >= metric]
        members = [m for m in members if cost is None or price(m) <= cost]
        if not members:
            best, cheapest = max(self.members, key=_metric), min(self.members, key=price)
            limits = {"a metric of at least": metric, "a cost of at most": cost}
            unmet = " and ".join(f"{limit} {value}" for limit, value in limits.items() if value is not None)
            raise ArgumentError(
                f"no member has {unmet}; the best is {best.name} with a metric of {best.metric:g}, the cheapest "
                f"{cheapest.name} with a cost of {price(cheapest):g}"
            )
        if metric is not None:
            return min(members, key=lambda member: (price(member), -_metric(member)))
        return max(members, key=lambda member: (_metric(member), -price(member)))

    def load_(self, model: nn.Module, member: Member) -> None:
        """Load a member, including its masks, into a model with the same architecture.

        Raises
        ------
        FormatError
            If the member's file is damaged, or the model has a different architecture.
        """
        tensors = member.tensors()
        remove_masks_(model)
        if member.patterns:
            load_masked_(model, tensors, dict(member.patterns))
        else:
            model.load_state_dict(tensors)

    def report(self) -> Report:
        """Return a table with one row per member."""
        columns = ("density", "steps", "loss", "metric", "bytes")
        rows = [{"member": member.name, **{c: getattr(member, c) for c in columns}} for member in self.members]
        return Report(
            "family", tuple(rows), {"members": len(rows), "steps": sum(member.steps for member in self.members)}
        )


def model_bytes(model: nn.Module) -> int:
    """Return the size of a model on disk in bytes, with masked weights packed and everything else unchanged."""
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
    """Write the index of a family atomically: readers see either the old index or the new one."""
    rows = [
        {k: v for k, v in vars(member).items() if k != "state"} | {"file": member.file.name if member.file else None}
        for member in members
    ]
    body = {"version": _VERSION, "inputs": dict(inputs), "members": rows}
    write_whole(folder / INDEX, json.dumps(body, indent=1))


def read_members(folder: Path) -> tuple[tuple[Member, ...], dict[str, str]]:
    """Return the members in a folder and the hashes of their run's inputs."""
    path = folder / INDEX
    body: Any
    try:
        body = json.loads(path.read_text())
        if body["version"] != _VERSION:
            raise FormatError(f"{path} has version {body['version']}, but this build reads version {_VERSION}")
        members = [Member(**{**row, "file": folder / row["file"]}) for row in body["members"]]
        for member in members:
            for text in member.patterns.values():
                parse(text)
        return tuple(members), dict(body["inputs"])
    except FileNotFoundError as error:
        raise FormatError(f"no family in {folder}: the file {INDEX} is missing") from error
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"{path} is not the index of a family ({error}); remove the folder to start over") from error


def _metric(member: Member) -> float:
    assert member.metric is not None
    return member.metric


def _is_mask(name: str, masks: Mapping[str, Tensor]) -> bool:
    return name.endswith("_mask") and name.removesuffix("_mask") in masks


def _packed_bytes(values: Any, pattern: Pattern, mask: Any) -> int:
    return disk_bytes(pack(values, pattern, mask))
