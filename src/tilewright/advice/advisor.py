"""`advise`: which pattern each layer should take to meet a latency or size limit on a target, before any training."""

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
    """The report of `advise`, one row per layer. `ok` is False if a limit cannot be met."""

    @property
    def targets(self) -> dict[str, Pattern]:
        """The pattern of every layer to prune, in the form that `sparsify_` takes."""
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
    """Choose a pattern for every layer, or leave it dense, so that the limits are met at the least predicted loss.

    Parameters
    ----------
    model
        A dense torch module, or the folder of a ``transformers`` model (for a ``SentenceTransformer``, its transformer is
        used).
    target
        ``"cpu"`` measures this machine now, in float32, with torch's current number of threads. Otherwise a modelled
        machine: the name of a preset (``"a100"``, ``"s4"``, ``"sta"``, ...) or an `AcceleratorSpec`.
    latency
        Upper limit on the time of one call, in seconds. At least one of `latency` and `size` is required.
    size
        Upper limit on the size of all parameters on disk, in bytes.
    example, batch, sequence
        The inputs of one call, as for `tilewright.hardware.capture`.
    patterns
        Patterns to choose from. Default: those that suit the target.
    dtype
        Data type of weights and activations on a modelled machine. Default: the first type that the machine lists.
    data
        Batches and a loss; each layer's loss is then measured by `tilewright.pruning.sensitivity_scan`. By default the
        loss is the share of a weight's energy that magnitude pruning removes, which does not account for how much the
        model depends on the layer.
    ignore
        Expressions that match the layers to keep dense. Default: none.

    Returns
    -------
    Advice
        One row per layer: pattern, density, microseconds dense and as chosen, predicted loss, bytes, and the reason if it
        stays dense. The summary has the latencies with their intervals. Pass `targets` to `sparsify_`; it is empty if the
        dense model meets the limits.

    Raises
    ------
    ArgumentError
        If no limit is given, the target is unknown, or the model does not run on the example.
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
        raise ArgumentError(f"dtype is {dtype}, but layers run in float32 on the CPU; leave dtype out")
    if spec is not None:
        spec.rate(kind)
    module = _module(model)
    net, owners = survey_network(module, example, batch, sequence)
    options = tuple(parse(p) if isinstance(p, str) else p for p in patterns) or patterns_for(spec, kind)
    if not options:
        raise ArgumentError(
            f"no pattern is known to run faster than dense on {spec.name if spec else 'cpu'} in {kind}; pass patterns="
        )
    samples, chips = net.batch, 1 if spec is None else int(spec.chips)
    share = net.with_batch(math.ceil(samples / chips))
    layers = layers_of(module, share, owners, options, list(ignore))
    clock: Clock
    if spec is None:
        clock = CpuClock(module, *capture.call_of(module, example, samples, sequence), layers)
    else:
        clock = ModelClock(spec, kind, share, owners, samples)
    candidates = offers(module, layers, clock, data)
    rest = _bytes(module) - sum(_known(row[0].bytes) for row in candidates.values())
    outcome = meet(candidates, clock, latency, size, rest)
    summary: dict[str, object] = {
        "target": "cpu" if spec is None else spec.name,
        "model": type(module).__name__,
        "batch": samples,
        "dtype": kind,
        **_latencies(clock, outcome, latency),
        **_sizes(candidates, outcome, rest, size),
        **_losses(outcome, data is not None),
        **({"cannot": outcome.missed} if outcome.missed else {}),
        **({} if spec is None else {f"not modelled, {name}": count for name, count in net.unmodelled.items()}),
    }
    rows = tuple(_row(layers[name], candidates[name], outcome) for name in layers)
    return Advice("advise", rows, summary, ok=not outcome.missed)


_PREDICTION = {
    True: "a sensitivity scan: each layer pruned alone, their losses added",
    False: "weights alone: the share of each layer's energy that magnitude pruning removes; pass data to measure the loss",
}


def _check(latency: float | None, size: float | None) -> None:
    if latency is None and size is None:
        raise ArgumentError("advise needs a limit: latency in seconds, size in bytes, or both")
    for name, limit, unit in (("latency", latency, "seconds"), ("size", size, "bytes")):
        if limit is not None and not 0 < limit < math.inf:
            raise ArgumentError(f"{name} is {limit!r}; it must be a positive number of {unit}")


def _machine(target: str | AcceleratorSpec) -> AcceleratorSpec | None:
    """Return the specification of a modelled machine; None for the CPU."""
    if isinstance(target, AcceleratorSpec):
        return target
    return None if target == "cpu" else preset(target)


def _module(model: Any) -> Any:
    from torch import nn

    if isinstance(model, nn.Module):
        return model
    if not isinstance(model, str | os.PathLike):
        raise ArgumentError(
            f"model is of type {type(model).__name__}; expected a torch module or the folder of a model"
        )
    folder = Path(model)
    if not folder.is_dir():
        raise ArgumentError(
            f"{folder} is not a folder; pass the folder of a model, whose weights decide what each layer can lose"
        )
    from ..formats import is_checkpoint
    from ..hardware import capture

    if is_checkpoint(folder):
        raise ArgumentError(f"{folder} is already pruned; pass the dense model it was pruned from")
    if not (folder / "config.json").is_file():
        raise FormatError(f"{folder} has no config.json; pass the folder of a model")
    cls = capture.model_class(folder)
    try:
        return cls.from_pretrained(folder, local_files_only=True).float().eval()
    except Exception as error:  # transformers raises many kinds for files that it cannot read
        raise FormatError(f"{folder} cannot be loaded as a {cls.__name__}: {brief(error)}") from error


def _bytes(module: Any) -> float:
    return float(sum(p.numel() * p.element_size() for p in module.parameters()))


def _latencies(clock: "Clock", outcome: "Found", limit: float | None) -> dict[str, object]:
    dense, chosen = (clock.network(patterns, interval=True) for patterns in ({}, outcome.patterns))
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
    candidates: "Mapping[str, Sequence[Candidate]]", outcome: "Found", rest: float, limit: float | None
) -> dict[str, object]:
    return {
        "dense bytes": rest + sum(_known(row[0].bytes) for row in candidates.values()),
        "predicted bytes": rest + sum(_known(c.bytes) for c in outcome.chosen.values()),
        **({} if limit is None else {"bytes, limit": limit}),
    }


def _losses(outcome: "Found", measured: bool) -> dict[str, object]:
    name = "predicted loss increase" if measured else "energy pruned away, summed"
    return {name: sum(c.loss for c in outcome.chosen.values()), "loss predicted by": _PREDICTION[measured]}


def _row(layer: "Layer", candidates: "Sequence[Candidate]", outcome: "Found") -> dict[str, object]:
    candidate, dense = outcome.chosen[layer.weight.name], candidates[0]
    return {
        "name": layer.weight.name,
        "shape": list(layer.weight.tensor.shape),
        "pattern": _DENSE if candidate.pattern is None else str(candidate.pattern),
        "density": 1.0 if candidate.pattern is None else candidate.pattern.density,
        "us, dense": 1e6 * _known(dense.seconds),
        "us": 1e6 * _known(candidate.seconds),
        "loss": candidate.loss,
        "bytes": int(_known(candidate.bytes)),
        "reason": _reason(layer, candidates) if candidate.pattern is None else "",
    }


def _reason(layer: "Layer", candidates: "Sequence[Candidate]") -> str:
    """Return why a layer stays dense."""
    if len(candidates) == 1:
        return next(iter(layer.reasons.values()), "no pattern to choose from")
    if not layer.operations:
        return "not used in a call of the model"
    dense = _known(candidates[0].seconds)
    best = min(candidates[1:], key=lambda candidate: _known(candidate.seconds))
    if _known(best.seconds) >= dense:
        ratio = f" ({best.pattern} would take {_known(best.seconds) / dense:.2f}x dense)" if dense else ""
        return f"no pattern is faster here{ratio}"
    return "not needed to meet the limit"


def _known(value: float | None) -> float:
    assert value is not None  # the candidates of `advise` have both costs
    return value
