"""`simulate`: a network on a modelled machine, at a chosen level of fidelity."""

import math
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from ..errors import ArgumentError, unknown
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
    """Simulate a network on a modelled machine: how long it takes and where the cycles go.

    Parameters
    ----------
    model
        A torch module, pruned or not; the folder of a packed or dense checkpoint; a `Workload`; or the name of a
        full-size network (see `tilewright.hardware.networks`).
    arch
        The name of a preset, such as ``"a100"`` or ``"s4-dense"``, or an `AcceleratorSpec`.
    batch
        Batch size, split across the card's chips. Default: the batch size of the example or workload, or 1.
    example
        The inputs of one call of the module, as for `tilewright.hardware.capture`. Values are ignored.
    sequence
        Tokens per sample if no example is given. Default: 128, or the longest sequence of a model that takes less.
    fidelity
        ``"roofline"``, ``"analytical"`` or ``"tiles"`` (the default), from the fastest level to the most detailed.
    dtype
        Data type of weights and activations. Default: the first type that the machine lists.
    pattern
        A pattern that every weight is assumed to be evenly pruned to if it can take it. Default: the weights as they are.
    interval
        Whether to propagate the intervals of the machine's numbers to the time. Default: True.

    Returns
    -------
    Simulation
        Seconds, cycles by cause, bytes and joules, with the views `table`, `waterfall`, `timeline`, `roofline` and
        `assumptions`.

    Raises
    ------
    ArgumentError
        If the machine, network or folder is unknown, the machine does not support the data type, or the model does not
        fit it.

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
        raise ArgumentError(unknown("fidelity", fidelity, get_args(Fidelity)))
    if batch is not None and batch < 1:
        raise ArgumentError(f"batch must be at least 1, got {batch}")
    kind = dtype or spec.types[0]
    spec.rate(kind)
    chips = int(spec.chips)
    net, samples = _network(model, batch, chips, example, sequence)
    if pattern is not None:
        net = net.with_pattern(parse(pattern) if isinstance(pattern, str) else pattern)
    _check_room(spec, net, kind)
    results = _run(spec, net, kind, fidelity)
    cycles = sum(result.cycles for result in results)
    scale = (samples / net.batch, chips)
    low_high, effects = _interval(spec, net, kind, fidelity, cycles) if interval and results else (None, ())
    return Simulation(
        spec=spec,
        workload=net.name,
        batch=samples,
        dtype=kind,
        fidelity=fidelity,
        operations=tuple(_of_card(result, *scale) for result in results),
        cycles=cycles,
        interval=low_high,
        steps=net.operations,
        effects=effects,
        unmodelled=net.unmodelled,
    )


def _network(model: Any, batch: int | None, chips: int, example: Any, sequence: int | None) -> tuple[Workload, int]:
    """Return the workload of one chip, and the size of the whole batch."""
    if isinstance(model, Workload):
        samples = batch or model.batch
        return model.with_batch(_share(samples, chips)), samples
    if isinstance(model, str) and model in NETWORKS and example is None:
        samples = batch or 1
        return workload(model, _share(samples, chips), sequence), samples
    if isinstance(model, str | os.PathLike):
        if not Path(model).exists():
            raise ArgumentError(
                f"{os.fspath(model)} is neither a folder nor a known network; pass the folder of a model, or one of "
                f"{', '.join(NETWORKS)}"
            )
        from .capture import capture_checkpoint

        captured: Callable[..., Workload] = capture_checkpoint
    elif "torch" in sys.modules and isinstance(model, sys.modules["torch"].nn.Module):
        from .capture import capture

        captured = capture
    else:
        raise ArgumentError(
            f"model is of type {type(model).__name__}; expected a torch module, a folder, a Workload or the name of a network"
        )
    if batch is None and example is not None:
        net = captured(model, example, sequence=sequence)
        return net.with_batch(_share(net.batch, chips)), net.batch
    samples = batch or 1
    return captured(model, example, batch=_share(samples, chips), sequence=sequence), samples


def _share(samples: int, chips: int) -> int:
    return math.ceil(samples / chips)


def _run(spec: AcceleratorSpec, net: Workload, dtype: str, fidelity: Fidelity) -> list[OperationResult]:
    """Run the operations of one chip one after another; vector work hides behind products where the machine allows it."""
    engine = roofline.run if fidelity == "roofline" else ENGINES[spec.engine]
    known: dict[tuple[object, ...], OperationResult] = {}
    results = []
    for operation in net:
        key = operation.key
        if key not in known:
            known[key] = engine(spec, operation, dtype, fidelity)
        results.append(known[key])
    shown = visible(spec, net.operations, [result.cycles for result in results])
    now, schedule = 0, []
    for operation, result, cycles in zip(net, results, shown, strict=True):
        schedule.append(_placed(result, operation.name, now, cycles))
        now += cycles
    return schedule


def _placed(result: OperationResult, name: str, start: int, cycles: int) -> OperationResult:
    """Return an operation's result at its start cycle, without the cycles that hide behind products."""
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
    """Return an operation's result with the joules of all chips: work scales with the batch, static power with the chips."""
    if chips == 1:
        return result
    joules = {part: value * (chips if part == "static" else shares) for part, value in result.joules.items()}
    return replace(result, joules=joules)


def _interval(
    spec: AcceleratorSpec, net: Workload, dtype: str, fidelity: Fidelity, cycles: int
) -> tuple[tuple[float, float], tuple[Effect, ...]]:
    """Return the interval of the time, and the effect of each number on it.

    Numbers are varied one at a time on a network in which one operation stands for all of its shape, then all at once on
    the real network.
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
            f"with {net.batch} samples per chip, but memories.{spec.dram.name}.size is {room:,.0f}; use a smaller batch, a narrower "
            "data type or a sparser model"
        )
