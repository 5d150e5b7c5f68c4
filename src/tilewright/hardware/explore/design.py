"""`Design`: one point of the design space, a variation of a preset and the network it runs."""

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ...errors import ArgumentError
from ...patterns import parse
from ..machine.interval import vary
from ..machine.presets import preset
from ..machine.spec import AcceleratorSpec
from ..networks import workload
from ..workload import Workload
from .area import area

__all__ = ["Design", "describe", "grid"]

Selectors = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Design:
    """One machine, and a network on it.

    Parameters
    ----------
    arch
        Name of the preset to vary.
    network
        Name of a full-size network (see `tilewright.hardware.networks`), or a `Workload`.
    pattern
        The pattern that every weight is evenly pruned to if it can take it. Default: None, the weights as they are.
    dtype
        Data type of weights and activations. Default: the first type that the machine lists.
    batch
        Batch size, split across the card's chips. Default: 1.
    sequence
        Tokens per sample. Default: that of the network.
    changes
        New values for numbers of the preset, by the paths of `AcceleratorSpec.quantities`, such as ``("clock", 1e9)``.
        Multiply-accumulates scale with the sides of an array. Default: none.
    selectors
        ``(n, m)`` of the selectors, for every data type; empty for a dense machine. Default: None, those of the preset.
    """

    arch: str
    network: str | Workload
    pattern: str | None = None
    dtype: str | None = None
    batch: int = 1
    sequence: int | None = None
    changes: tuple[tuple[str, float], ...] = ()
    selectors: Selectors | None = None

    def spec(self) -> AcceleratorSpec:
        """Return the machine. Static power is assumed to scale with area (see `area`).

        Raises
        ------
        ArgumentError
            If no such machine can be built; the message names the field and the value.
        """
        return _spec(self.arch, self.changes, self.selectors)

    def workload(self) -> Workload:
        """Return the workload of one of its chips."""
        share = math.ceil(self.batch / int(self.spec().chips))
        if isinstance(self.network, Workload):
            return self.network.with_batch(share)
        return _network(self.network, share, self.sequence)

    def key(self) -> str:
        """Return a hash of everything that the result depends on: machine, network, options and the code of the models.

        Raises
        ------
        ArgumentError
            As for `spec`.
        """
        spec, pattern = self.spec(), None if self.pattern is None else parse(self.pattern).canonical
        parts = (
            spec.digest(),
            preset(self.arch).digest(),
            _digest(self.workload()),
            pattern,
            self.dtype or spec.types[0],
            self.batch,
            _models(),
        )
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def describe(design: Design) -> str:
    """Return a short description of a design, for messages."""
    network = design.network.name if isinstance(design.network, Workload) else design.network
    changes = "".join(f", {path} {value:g}" for path, value in design.changes)
    pattern = "dense" if design.pattern is None else design.pattern
    return f"{design.arch} with {network} ({pattern}, batch {design.batch}{changes})"


def grid(
    arch: str | Sequence[str],
    network: str | Workload | Sequence[str | Workload],
    *,
    patterns: Iterable[str | None] = (None,),
    dtypes: Iterable[str | None] = (None,),
    batches: Iterable[int] = (1,),
    sequence: int | None = None,
    selectors: Iterable[Selectors | None] = (None,),
    vary: Mapping[str, Sequence[float]] | None = None,
) -> list[Design]:
    """Return the designs of every combination of the values given.

    Parameters
    ----------
    arch, network
        One value or several, as for the fields of `Design`.
    patterns, dtypes, batches, selectors
        The values to combine, as for the fields of `Design`. Default: that field's default alone.
    sequence
        Tokens per sample, the same for all designs. Default: that of each network.
    vary
        Values to try for numbers of the preset, by path, such as ``{"columns": [64, 128], "memories.dram.bandwidth":
        [1e10, 2e10]}``.

    Raises
    ------
    ArgumentError
        If a preset is unknown, or lacks a number in `vary`.
    PatternError
        If a pattern cannot be parsed.

    Examples
    --------
    >>> points = grid("sta", "bert-base", patterns=[None, "2:8"], vary={"columns": [64, 128], "clock": [1e8, 2e8, 3e8]})
    >>> len(points), points[-1].changes
    (12, (('columns', 128), ('clock', 300000000.0)))
    """
    archs = [arch] if isinstance(arch, str) else list(arch)
    networks = [network] if isinstance(network, str | Workload) else list(network)
    ranges = dict(vary or {})
    kinds = list(patterns)
    for text in kinds:
        if text is not None:
            parse(text)
    for name in archs:
        known = dict(preset(name).quantities())
        for path in ranges:
            if path not in known:
                raise ArgumentError(f"{name} has no number {path!r} to vary; expected one of {', '.join(known)}")
    changes = [tuple(zip(ranges, values, strict=True)) for values in itertools.product(*ranges.values())]
    return [
        Design(name, net, pattern, dtype, batch, sequence, change, steps)
        for name, net, pattern, dtype, batch, steps, change in itertools.product(
            archs, networks, kinds, list(dtypes), list(batches), list(selectors), changes
        )
    ]


@cache
def _spec(arch: str, changes: tuple[tuple[str, float], ...], selectors: Selectors | None) -> AcceleratorSpec:
    base = spec = preset(arch)
    if selectors is not None:
        spec = replace(spec, selectors=dict.fromkeys(spec.macs, selectors) if selectors else {})
    for path, value in changes:
        spec = vary(spec, path, value)
    if spec is not base and "static" in spec.energy and "energy.static" not in dict(changes):
        growth = area(spec)["total"] / area(base)["total"]
        spec = spec.with_quantity("energy.static", float(base.energy["static"]) * growth)
    return spec


@cache
def _network(name: str, batch: int, sequence: int | None) -> Workload:
    return workload(name, batch, sequence)


@cache
def _digest(net: Workload) -> str:
    digest = hashlib.sha256(f"{net.name} {net.batch}".encode())
    for operation in net:
        digest.update(repr((operation.key, operation.inputs, operation.name)).encode())
    return digest.hexdigest()


@cache
def _models() -> str:
    """Return a hash of the code that computes the results, so that a changed model never reuses old results."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
