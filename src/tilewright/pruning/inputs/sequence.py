"""Weights in the order in which data reach them, each with its inputs in the model as changed so far."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ...errors import ArgumentError
from ..weights import Weight
from .activations import Moments, add_moments, collect, products, require_seen, same, version
from .calibration import Calibration, call, padding_of, resting
from .coroutines import Pass
from .layers import hosts, seen, shown
from .padding import Padding, PaddingReader

__all__ = ["in_sequence"]

_MOST = 512
"""Most passes that may be open at once: each has a thread and keeps the inputs of one layer in memory."""

Visit = Callable[[Weight, list[Moments]], None]


def in_sequence(
    model: nn.Module, weights: Sequence[Weight], data: Calibration, visit: Visit, reference: nn.Module | None = None
) -> list[Any]:
    """Call ``visit(weight, moments)`` for every weight in order of use; the forward passes continue with the changed weight.

    Parameters
    ----------
    model, weights
        Model to run, and the weights to visit, each once. A weight whose module is called several times in a pass (recurrent cells,
        shared layers) is visited at the first call, with the moments of all calls, which are collected before anything is changed.
    data
        Calibration batches. The forward passes of all batches are open from the first weight to the last, and each keeps its live
        tensors in memory.
    visit
        Function called for each weight; it may change the weight in place.
    reference
        Unchanged copy of the model, run on the same batches; the moments then include its inputs, as `Moments.cross`. Default: None.

    Returns
    -------
    list
        Output of the model for each batch, after all weights were visited.

    Raises
    ------
    ArgumentError, NotSupportedError
        As for `collect`; `ArgumentError` also if there are more than 512 batches.
    """
    batches = list(data.batches)
    if not 0 < len(batches) <= _MOST:
        raise ArgumentError(
            f"a sequential update keeps the passes of all batches open at once and takes between 1 and {_MOST} batches; got {len(batches)}. "
            "Use fewer, larger batches, or update=Obs(sequential=False)"
        )
    known = _repeated(model, weights, replace(data, batches=batches))
    walk = _Walk(model, weights, data, visit, reference, known)
    with resting(model), torch.no_grad():
        return walk.run(batches)


def _repeated(model: nn.Module, weights: Sequence[Weight], data: Calibration) -> dict[str, list[Moments]]:
    """Return the moments of the weights whose module is called more than once on the first batch."""
    counts: dict[str, int] = {}
    handles = []
    for name, (host, _) in hosts(model, weights).items():

        def count(module: nn.Module, args: Any, name: str = name) -> None:
            counts[name] = counts.get(name, 0) + 1

        handles.append(host.register_forward_pre_hook(count))
    try:
        with resting(model), torch.no_grad():
            call(model, data, next(iter(data.batches)))
    finally:
        for handle in handles:
            handle.remove()
    repeated = [w for name, (_, hosted) in hosts(model, weights).items() if counts.get(name, 0) > 1 for w in hosted]
    return collect(model, repeated, data) if repeated else {}


class _Walk:
    """The forward passes of all batches, through the model and the reference."""

    def __init__(
        self,
        model: nn.Module,
        weights: Sequence[Weight],
        data: Calibration,
        visit: Visit,
        reference: nn.Module | None,
        known: dict[str, list[Moments]],
    ) -> None:
        self._models = [model] if reference is None else [model, reference]
        self._weights, self._data, self._visit, self._known = weights, data, visit, known
        self._visited: set[str] = set()
        self._running: Pass | None = None
        self._tokens: list[Padding | None] = []
        self._last: tuple[list[Any], list[Moments]] = ([], [])

    def run(self, batches: Sequence[Any]) -> list[Any]:
        reader = PaddingReader(self._models[0])
        self._tokens = [padding_of(reader, self._data, batch, index) for index, batch in enumerate(batches)]
        handles = [
            host.register_forward_pre_hook(self._hook(hosted), with_kwargs=True)
            for model in self._models
            for host, hosted in hosts(model, _twins(model, self._weights)).values()
        ]
        rows = [[self._pass(model, batch) for model in self._models] for batch in batches]
        passes = [forward for row in rows for forward in row]
        try:
            self._step(passes)
            while waiting := [forward for row in rows for forward in row[:1] if not forward.done]:
                self._solve(_most_wanted(waiting), rows)
                self._step([forward for forward in passes if not forward.done])
        finally:
            for forward in passes:
                forward.abandon()
            for handle in handles:
                handle.remove()
        for weight in self._weights:
            if weight.name not in self._visited:
                require_seen(weight, [])
        return [row[0].result for row in rows]

    def _pass(self, model: nn.Module, batch: Any) -> Pass:
        return Pass(lambda _: call(model, self._data, batch))

    def _step(self, passes: Sequence[Pass]) -> None:
        for forward in passes:
            if forward.at is None or forward.at[0].name in self._visited:
                self._running = forward
                try:
                    forward.step()
                finally:
                    self._running = None

    def _hook(self, weights: Sequence[Weight]) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def before(host: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            running = self._running
            if running is None:  # a call from outside, for example by `visit`
                return
            for weight in weights:
                if weight.name not in self._visited:
                    running.wait((weight, host, args, kwargs))

        return before

    def _solve(self, weight: Weight, rows: Sequence[Sequence[Pass]]) -> None:
        moments = self._known.get(weight.name)
        if moments is None:
            moments = self._moments(weight, rows)
            require_seen(weight, moments)
        self._visit(weight, moments)
        self._visited.add(weight.name)

    def _moments(self, weight: Weight, rows: Sequence[Sequence[Pass]]) -> list[Moments]:
        """Return the moments over all batches waiting at a weight; reuse those of the previous weight if the inputs are the same."""
        waiting = [
            (row, tokens)
            for row, tokens in zip(rows, self._tokens, strict=True)
            if all(forward.at is not None and forward.at[0].name == weight.name for forward in row)
        ]
        keys = []
        for row, tokens in waiting:
            for forward in row:
                target, host, args, kwargs = forward.at
                source = shown(host, target, args, kwargs)
                keys.append((source, version(source), tokens))
        if len(keys) == len(self._last[0]) and all(map(same, keys, self._last[0])):
            moments = self._last[1]
            return [replace(moments[0], outputs=slice(0, weight.matrix_shape[0]))]
        sums: list[Moments] = []
        for row, tokens in waiting:
            pieces = [
                list(seen(host, target, args, kwargs, tokens))
                for target, host, args, kwargs in (forward.at for forward in row)
            ]
            for index, (outputs, inputs) in enumerate(pieces[0]):
                reference = pieces[1][index][1] if len(pieces) > 1 else None
                add_moments(sums, products(outputs, inputs, False, reference))
        self._last = (keys, sums)
        return sums


def _twins(model: nn.Module, weights: Sequence[Weight]) -> list[Weight]:
    """Return the corresponding weights of a copy of the model."""
    modules = dict(model.named_modules())
    return [
        replace(
            weight,
            module=modules[weight.module_name],
            tensor=modules[weight.module_name]._parameters[weight.parameter_name],
        )
        for weight in weights
    ]


def _most_wanted(passes: Sequence[Pass]) -> Weight:
    """Return the weight that most passes wait for; among equals, the first."""
    counts: dict[str, int] = {}
    weights: dict[str, Weight] = {}
    for forward in passes:
        weight = forward.at[0]
        counts[weight.name] = counts.get(weight.name, 0) + 1
        weights.setdefault(weight.name, weight)
    return weights[max(counts, key=lambda name: counts[name])]
