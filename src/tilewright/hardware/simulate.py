"""`simulate`: a network on a machine, at the level of fidelity asked for."""

import math
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from ..errors import ArgumentError
from ..patterns import Pattern, parse
from . import roofline
from .engines import ENGINES
from .engines.vector import visible
from .machine.interval import Effect, interval_of
from .machine.presets import preset
from .machine.spec import BYTES, AcceleratorSpec
from .networks import NETWORKS, workload
from .result import Fidelity, OperationResult
from .simulation import Simulation
from .workload import Workload

__all__ = ["simulate"]


def simulate(
    model: Any,
    arch: str | AcceleratorSpec,
    *,
    batch: int | None = None,
    example: Any = None,
    sequence: int | None = None,
    fidelity: Fidelity = "tiles",
    dtype: str | None = None,
    pattern: Pattern | str | None = None,
    interval: bool = True,
) -> Simulation:
    """Run a network on a machine that is a model, and say how long it takes and where the cycles go.

    Parameters
    ----------
    model
        A torch module, pruned or not; the folder of a checkpoint, packed or dense; a `Workload`; or the name of a full-size network (see
        `tilewright.hardware.networks`).
    arch
        Name of a preset, such as ``"a100"`` or ``"s4-dense"``, or a specification.
    batch
        Samples, shared by the chips of the card; 1, or the example's or workload's own, unless told.
    example, sequence
        What to call the module with, as for `tilewright.hardware.capture`; tokens of a sample where the input is known.
    fidelity
        ``"roofline"``, ``"analytical"`` or ``"tiles"``: each level is slower and closer.
    dtype
        Of weights and activations; the first that the machine lists unless told.
    pattern
        Simulate as if every weight that can take it were pruned to this pattern, evenly.
    interval
        Whether to carry the intervals of the machine's numbers through to the time.

    Returns
    -------
    Simulation
        Seconds, cycles by cause, bytes, joules; `table`, `waterfall`, `timeline`, `roofline`, `assumptions`.

    Raises
    ------
    ArgumentError
        If there is no such machine, network or folder, the machine does not take the type, or the model does not fit it.

    Examples
    --------
    >>> run = simulate("bert-base", "a100", batch=8, pattern="2:4")
    >>> dense = simulate("bert-base", "a100", batch=8)
    >>> 1.0 < dense.seconds / run.seconds < 2.0
    True
    >>> sum(run.causes.values()) == run.cycles
    True
    """
    spec = preset(arch) if isinstance(arch, str) else arch
    if fidelity not in get_args(Fidelity):
        raise ArgumentError(f"fidelity is one of {', '.join(get_args(Fidelity))}, and {fidelity!r} was given")
    if batch is not None and batch < 1:
        raise ArgumentError(f"a batch has at least one sample, and {batch} were asked for")
    chosen = dtype or spec.types[0]
    spec.rate(chosen)
    chips = int(spec.chips)
    net, samples = _network(model, batch, chips, example, sequence)
    if pattern is not None:
        net = net.with_pattern(parse(pattern) if isinstance(pattern, str) else pattern)
    _check_room(spec, net, chosen)
    found = _run(spec, net, chosen, fidelity)
    cycles = sum(result.cycles for result in found)
    scale = (samples / net.batch, chips)
    low_high, effects = _interval(spec, net, chosen, fidelity, cycles) if interval and found else (None, ())
    return Simulation(
        spec=spec,
        workload=net.name,
        batch=samples,
        dtype=chosen,
        fidelity=fidelity,
        operations=tuple(_of_card(result, *scale) for result in found),
        cycles=cycles,
        interval=low_high,
        steps=net.operations,
        effects=effects,
        unmodelled=net.unmodelled,
    )


def _network(model: Any, batch: int | None, chips: int, example: Any, sequence: int | None) -> tuple[Workload, int]:
    """Return what one chip runs, and the samples of the whole batch."""
    if isinstance(model, Workload):
        samples = batch or model.batch
        return model.with_batch(_share(samples, chips)), samples
    if isinstance(model, str) and model in NETWORKS and example is None:
        samples = batch or 1
        return workload(model, _share(samples, chips), sequence), samples
    if isinstance(model, str | os.PathLike):
        if not Path(model).exists():
            raise ArgumentError(
                f"{os.fspath(model)} is neither a folder nor a network; name the folder of a model, or one of {', '.join(NETWORKS)}"
            )
        from .capture import capture_checkpoint

        captured: Callable[..., Workload] = capture_checkpoint
    elif "torch" in sys.modules and isinstance(model, sys.modules["torch"].nn.Module):
        from .capture import capture

        captured = capture
    else:
        raise ArgumentError(
            f"a {type(model).__name__} cannot be simulated; give a torch module, a folder, a Workload or the name of a network"
        )
    if batch is None and example is not None:
        net = captured(model, example, sequence=sequence)
        return net.with_batch(_share(net.batch, chips)), net.batch
    samples = batch or 1
    return captured(model, example, batch=_share(samples, chips), sequence=sequence), samples


def _share(samples: int, chips: int) -> int:
    return math.ceil(samples / chips)


def _run(spec: AcceleratorSpec, net: Workload, dtype: str, fidelity: Fidelity) -> list[OperationResult]:
    """Run the operations of one chip one after the other; vector work hides behind products where the machine lets it."""
    engine = roofline.run if fidelity == "roofline" else ENGINES[spec.engine]
    known: dict[tuple[object, ...], OperationResult] = {}
    alone = []
    for operation in net:
        key = operation.key
        if key not in known:
            known[key] = engine(spec, operation, dtype, fidelity)
        alone.append(known[key])
    shown = visible(spec, net.operations, [result.cycles for result in alone])
    now, placed = 0, []
    for operation, result, cycles in zip(net, alone, shown, strict=True):
        placed.append(_placed(result, operation.name, now, cycles))
        now += cycles
    return placed


def _placed(result: OperationResult, name: str, start: int, cycles: int) -> OperationResult:
    """Return an operation's result at its place, without the cycles that hide behind products."""
    if cycles == result.cycles:
        return replace(result, name=name, start=start)
    left, causes = cycles, {}
    for cause, count in result.causes.items():
        causes[cause] = min(left, count)
        left -= causes[cause]
    joules = dict(result.joules)
    if "static" in joules:
        joules["static"] *= cycles / result.cycles
    return replace(
        result,
        name=name,
        start=start,
        cycles=cycles,
        hidden=result.cycles - cycles,
        causes={cause: count for cause, count in causes.items() if count},
        joules=joules,
    )


def _of_card(result: OperationResult, shares: float, chips: int) -> OperationResult:
    """Return an operation's result with the joules of all chips: work by their share of the batch, static power by their number."""
    if chips == 1:
        return result
    joules = {part: value * (chips if part == "static" else shares) for part, value in result.joules.items()}
    return replace(result, joules=joules)


def _interval(
    spec: AcceleratorSpec, net: Workload, dtype: str, fidelity: Fidelity, cycles: int
) -> tuple[tuple[float, float], tuple[Effect, ...]]:
    """Return the interval of the time and what moves it.

    One number at a time is moved on a network in which one operation stands for all of its shape; then all at once on the real one.
    """
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, o in enumerate(net.operations):
        shape = (o.kind, o.function, o.M, o.N, o.K, o.copies, o.steps, o.reads, o.writes)
        groups.setdefault((*shape, o.weight and o.weight.pattern), []).append(index)
    alike = list(net.operations)
    for members in groups.values():
        for index in members:
            alike[index] = replace(alike[members[0]], name=alike[index].name, inputs=())
    stand_in = Workload(net.name, tuple(replace(o, inputs=()) for o in alike), net.batch)
    quick: Fidelity = "roofline" if fidelity == "roofline" else "analytical"

    def seconds(run_on: Workload, level: Fidelity) -> Callable[[AcceleratorSpec], float]:
        return lambda machine: sum(r.cycles for r in _run(machine, run_on, dtype, level)) / float(machine.clock)

    return interval_of(spec, seconds(stand_in, quick), seconds(net, fidelity), cycles / float(spec.clock))


def _check_room(spec: AcceleratorSpec, net: Workload, dtype: str) -> None:
    size = BYTES[dtype]
    weights = sum(int(o.weight.kept * o.copies * size) for o in net if o.weight is not None)
    largest = max((int((o.reads + o.writes) * size) for o in net), default=0)
    room = float(spec.dram.size) * spec.dram.instances
    if weights + largest > room:
        raise ArgumentError(
            f"{net.name} does not fit {spec.name}: its weights take {weights:,} bytes in {dtype} and its largest step {largest:,} "
            f"with {net.batch} samples a chip, and memories.{spec.dram.name}.size is {room:,.0f}; a smaller batch, a narrower type or a "
            "sparser model needs less"
        )
