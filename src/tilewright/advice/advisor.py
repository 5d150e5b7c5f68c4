"""`advise`: which pattern each layer should take on a target to meet a latency or a size, before anyone trains."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, FormatError, brief
from ..hardware import AcceleratorSpec, preset
from ..patterns import Pattern, parse
from ..records import Report

if TYPE_CHECKING:
    from ..pruning import Calibration, Candidate
    from .clocks import Clock
    from .layers import Layer
    from .limits import Found

__all__ = ["Advice", "advise"]

_DENSE = "dense"


@dataclass(frozen=True)
class Advice(Report):
    """The report of `advise`: one row a layer. `ok` is False if what was asked for cannot be met."""

    @property
    def targets(self) -> dict[str, Pattern]:
        """The pattern of every layer to prune, as `sparsify_` takes them."""
        return {str(row["name"]): parse(str(row["pattern"])) for row in self.rows if row["pattern"] != _DENSE}


def advise(
    model: Any,
    target: str | AcceleratorSpec,
    *,
    latency: float | None = None,
    size: float | None = None,
    example: Any = None,
    batch: int | None = None,
    sequence: int | None = None,
    patterns: Sequence[Pattern | str] = (),
    dtype: str | None = None,
    data: "Calibration | None" = None,
    ignore: Iterable[str] = (),
) -> Advice:
    """Choose a pattern for every layer, or none, so that a limit is met at the least predicted loss.

    Parameters
    ----------
    model
        A dense torch module, or the folder of a ``transformers`` model (of a ``SentenceTransformer`` its transformer).
    target
        ``"cpu"``: this machine, measured now, float32, with torch's present number of threads. Or a machine that is a model: the name of a
        preset (``"a100"``, ``"s4"``, ``"sta"``, ...), or a specification.
    latency
        Most seconds of a call.
    size
        Most bytes of all parameters on disk. One of the two limits, or both.
    example, batch, sequence
        What a call is: see `tilewright.hardware.capture`.
    patterns
        To choose from; those that suit the target unless told.
    dtype
        On a machine that is a model; the first that it lists unless told.
    data
        Batches and a loss: each layer's loss is then measured by `tilewright.pruning.sensitivity_scan`. Without, it is the share of the
        weight's energy that magnitude pruning removes, which knows nothing of what depends on a layer.
    ignore
        Expressions for what stays dense.

    Returns
    -------
    Advice
        Layer by layer the pattern, its density, seconds dense and as chosen, predicted loss, bytes, and the reason where it stays dense.
        The summary has the latencies with their intervals. `targets` goes into `sparsify_`; it is empty if dense already meets the limit.

    Raises
    ------
    ArgumentError
        If there is no limit, no such target, or the model does not run on the example.
    TargetError
        If the model has no weight that can be pruned.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(1024, 4096), nn.ReLU(), nn.Linear(4096, 1024))
    >>> example = torch.zeros(256, 1024)
    >>> dense = advise(model, "s4", latency=1.0, example=example).summary["dense latency, s"]
    >>> advice = advise(model, "s4", latency=0.4 * dense, example=example)
    >>> advice.ok, sorted(advice.targets)
    (True, ['0.weight', '2.weight'])
    """
    from ..hardware import capture
    from .clocks import CpuClock, ModelClock
    from .layers import layers_of, patterns_for, survey_network
    from .limits import meet
    from .losses import offers

    _check(latency, size)
    spec = _machine(target)
    kind = "float32" if spec is None else dtype or spec.types[0]
    if spec is None and dtype not in (None, "float32"):
        raise ArgumentError(f"on the CPU layers run in float32, and {dtype} was asked for; leave dtype out")
    if spec is not None:
        spec.rate(kind)
    module = _module(model)
    net, owners = survey_network(module, example, batch, sequence)
    tried = tuple(parse(one) if isinstance(one, str) else one for one in patterns) or patterns_for(spec, kind)
    if not tried:
        raise ArgumentError(
            f"{spec.name if spec else 'cpu'} runs no pattern in {kind} that is known to pay; give patterns="
        )
    samples, chips = net.batch, 1 if spec is None else int(spec.chips)
    share = net.with_batch(math.ceil(samples / chips))
    layers = layers_of(module, share, owners, tried, list(ignore))
    clock: Clock
    if spec is None:
        clock = CpuClock(module, *capture.call_of(module, example, samples, sequence), layers)
    else:
        clock = ModelClock(spec, kind, share, owners, samples)
    choices = offers(module, layers, clock, data)
    rest = _bytes(module) - sum(_known(each[0].bytes) for each in choices.values())
    found = meet(choices, clock, latency, size, rest)
    summary: dict[str, object] = {
        "target": "cpu" if spec is None else spec.name,
        "model": type(module).__name__,
        "batch": samples,
        "dtype": kind,
        **_latencies(clock, found, latency),
        **_sizes(choices, found, rest, size),
        **_losses(found, data is not None),
        **({"cannot": found.missed} if found.missed else {}),
        **({} if spec is None else {f"not modelled, {name}": count for name, count in net.unmodelled.items()}),
    }
    rows = tuple(_row(layers[name], choices[name], found) for name in layers)
    return Advice("advise", rows, summary, ok=not found.missed)


_PREDICTION = {
    True: "a sensitivity scan: each layer pruned alone, their losses added",
    False: "weights alone: the share of each layer's energy that magnitude pruning removes; give data for a measured loss",
}


def _check(latency: float | None, size: float | None) -> None:
    if latency is None and size is None:
        raise ArgumentError("advise needs a limit: latency in seconds, size in bytes, or both")
    for name, limit, unit in (("latency", latency, "seconds"), ("size", size, "bytes")):
        if limit is not None and not 0 < limit < math.inf:
            raise ArgumentError(f"{name} is {limit!r}, and it must be a positive number of {unit}")


def _machine(target: str | AcceleratorSpec) -> AcceleratorSpec | None:
    """Return the machine that is a model, None for the CPU."""
    if isinstance(target, AcceleratorSpec):
        return target
    return None if target == "cpu" else preset(target)


def _module(model: Any) -> Any:
    from torch import nn

    if isinstance(model, nn.Module):
        return model
    if not isinstance(model, str | os.PathLike):
        raise ArgumentError(
            f"a {type(model).__name__} cannot be advised on; give a torch module or the folder of a model"
        )
    folder = Path(model)
    if not folder.is_dir():
        raise ArgumentError(
            f"{folder} is no folder; name the folder of a model, whose weights decide what each layer can lose"
        )
    from ..formats import is_checkpoint
    from ..hardware import capture

    if is_checkpoint(folder):
        raise ArgumentError(f"{folder} is pruned already; give the dense model that it came from")
    if not (folder / "config.json").is_file():
        raise FormatError(f"{folder} holds no config.json; name the folder of a model")
    cls = capture.model_class(folder)
    try:
        return cls.from_pretrained(folder, local_files_only=True).float().eval()
    except Exception as error:  # whatever a library makes of files that it cannot take
        raise FormatError(f"{folder} does not open as a {cls.__name__}: {brief(error)}") from error


def _bytes(module: Any) -> float:
    return float(sum(p.numel() * p.element_size() for p in module.parameters()))


def _latencies(clock: "Clock", found: "Found", limit: float | None) -> dict[str, object]:
    dense, chosen = (clock.network(patterns, interval=True) for patterns in ({}, found.patterns))
    return {
        "dense latency, s": dense.seconds,
        "dense latency, low": dense.low,
        "dense latency, high": dense.high,
        "predicted latency, s": chosen.seconds,
        "predicted latency, low": chosen.low,
        "predicted latency, high": chosen.high,
        "speed-up": dense.seconds / chosen.seconds,
        **({} if limit is None else {"latency, limit": limit, "met even at the high end": chosen.high <= limit}),
    }


def _sizes(
    choices: "Mapping[str, Sequence[Candidate]]", found: "Found", rest: float, limit: float | None
) -> dict[str, object]:
    return {
        "dense bytes": rest + sum(_known(each[0].bytes) for each in choices.values()),
        "predicted bytes": rest + sum(_known(one.bytes) for one in found.chosen.values()),
        **({} if limit is None else {"bytes, limit": limit}),
    }


def _losses(found: "Found", measured: bool) -> dict[str, object]:
    name = "predicted loss increase" if measured else "energy pruned away, summed"
    return {name: sum(one.loss for one in found.chosen.values()), "loss predicted by": _PREDICTION[measured]}


def _row(layer: "Layer", choices: "Sequence[Candidate]", found: "Found") -> dict[str, object]:
    one, dense = found.chosen[layer.weight.name], choices[0]
    return {
        "name": layer.weight.name,
        "shape": list(layer.weight.tensor.shape),
        "pattern": _DENSE if one.pattern is None else str(one.pattern),
        "density": 1.0 if one.pattern is None else one.pattern.density,
        "us, dense": 1e6 * _known(dense.seconds),
        "us": 1e6 * _known(one.seconds),
        "loss": one.loss,
        "bytes": int(_known(one.bytes)),
        "reason": _reason(layer, choices) if one.pattern is None else "",
    }


def _reason(layer: "Layer", choices: "Sequence[Candidate]") -> str:
    """Return why a layer stays dense."""
    if len(choices) == 1:
        return next(iter(layer.reasons.values()), "no pattern was offered")
    if not layer.operations:
        return "a call does not use it"
    dense = _known(choices[0].seconds)
    best = min(choices[1:], key=lambda one: _known(one.seconds))
    if _known(best.seconds) >= dense:
        ratio = f" ({best.pattern} would take {_known(best.seconds) / dense:.2f}x dense)" if dense else ""
        return f"no pattern is faster here{ratio}"
    return "not needed to meet the limit"


def _known(value: float | None) -> float:
    assert value is not None  # the candidates of advise have all costs
    return value
