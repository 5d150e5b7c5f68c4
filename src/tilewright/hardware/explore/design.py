"""`Design`: one point of the space, as a variation of a preset and what it runs."""

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
        Preset that it varies.
    network
        Name of a full-size network (see `tilewright.hardware.networks`), or a `Workload`.
    pattern
        What every weight that can take it is pruned to, evenly; None for the weights as they are.
    dtype
        Of weights and activations; the first that the machine lists unless told.
    batch, sequence
        Samples, and tokens of each where the network takes them.
    changes
        Numbers in place of the preset's, by the paths of `AcceleratorSpec.quantities`: ``("clock", 1e9)``. Lanes go with the sides of an array.
    selectors
        n:m in place of the preset's, for every type; empty for a dense machine, None to leave them.
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
        """Return the machine. Static power grows with area (see `area`), which is an assumption.

        Raises
        ------
        ArgumentError
            If there is no such machine; the message names field and value.
        """
        return _spec(self.arch, self.changes, self.selectors)

    def workload(self) -> Workload:
        """Return what a chip of it runs."""
        share = math.ceil(self.batch / int(self.spec().chips))
        if isinstance(self.network, Workload):
            return self.network.with_batch(share)
        return _network(self.network, share, self.sequence)

    def key(self) -> str:
        """Return a hash of everything that its result depends on: machine, network, options and the code of the models.

        Raises
        ------
        ArgumentError
            As `spec`.
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
    """Return a design in a few words, for messages."""
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
    """Return every combination.

    Parameters
    ----------
    arch, network, patterns, dtypes, batches, sequence, selectors
        As the fields of `Design`, one or several.
    vary
        Values by path, such as ``{"columns": [64, 128], "memories.dram.bandwidth": [1e10, 2e10]}``.

    Raises
    ------
    ArgumentError
        If a preset lacks a number that is to vary, or there is no such preset.
    PatternError
        If a pattern does not exist.

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
                raise ArgumentError(f"{name} has no number {path!r} to vary; it has {', '.join(known)}")
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
        grown = area(spec)["total"] / area(base)["total"]
        spec = spec.with_quantity("energy.static", float(base.energy["static"]) * grown)
    return spec


@cache
def _network(name: str, batch: int, sequence: int | None) -> Workload:
    return workload(name, batch, sequence)


@cache
def _digest(net: Workload) -> str:
    found = hashlib.sha256(f"{net.name} {net.batch}".encode())
    for operation in net:
        found.update(repr((operation.key, operation.inputs, operation.name)).encode())
    return found.hexdigest()


@cache
def _models() -> str:
    """Return a hash of the code that the results come from: a better model does not answer with an older one's results."""
    found = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()
