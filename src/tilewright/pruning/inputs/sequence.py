"""Weights in the order in which data reach them, each with the inputs that the already changed model gives it."""

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
"""Passes held open at once: each is a thread, with the inputs of one layer."""

Visit = Callable[[Weight, list[Moments]], None]


def in_sequence(
    model: nn.Module, weights: Sequence[Weight], data: Calibration, visit: Visit, reference: nn.Module | None = None
) -> list[Any]:
    """Call ``visit(weight, moments)`` for every weight in the order of use; what it writes, the passes go on with.

    Parameters
    ----------
    model, weights
        Every weight is visited once. One whose module is called several times in a pass, as recurrent cells and shared layers are,
        is visited at the first call with the moments of all calls, taken before anything was changed.
    data
        Every batch is held open from the first weight to the last: what it keeps in memory is what its forward pass has alive.
    visit
        May change the weight in place.
    reference
        An unchanged copy of the model, run along on the same batches; moments then hold its inputs too, as `Moments.cross`.

    Returns
    -------
    list
        What the model returned for each batch, all weights visited.

    Raises
    ------
    ArgumentError, NotSupportedError
        As `collect` does, and if there are more than 512 batches.
    """
    batches = list(data.batches)
    if not 0 < len(batches) <= _MOST:
        raise ArgumentError(
            f"layers in sequence hold all batches open at once, so they take 1 to {_MOST} of them, and data has {len(batches)}; "
            "give fewer and larger ones, or update=Obs(sequential=False)"
        )
    known = _repeated(model, weights, replace(data, batches=batches))
    walk = _Walk(model, weights, data, visit, reference, known)
    with resting(model), torch.no_grad():
        return walk.run(batches)


def _repeated(model: nn.Module, weights: Sequence[Weight], data: Calibration) -> dict[str, list[Moments]]:
    """Return the moments of the weights whose module is called more than once for the first batch."""
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
    several = [w for name, (_, own) in hosts(model, weights).items() if counts.get(name, 0) > 1 for w in own]
    return collect(model, several, data) if several else {}


class _Walk:
    """All passes over all batches, of the model and of the reference beside it."""

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
            host.register_forward_pre_hook(self._hook(own), with_kwargs=True)
            for model in self._models
            for host, own in hosts(model, _twins(model, self._weights)).values()
        ]
        rows = [[self._pass(model, batch) for model in self._models] for batch in batches]
        everything = [one for row in rows for one in row]
        try:
            self._step(everything)
            while open_ := [one for row in rows for one in row[:1] if not one.done]:
                self._solve(_most_wanted(open_), rows)
                self._step([one for one in everything if not one.done])
        finally:
            for one in everything:
                one.abandon()
            for handle in handles:
                handle.remove()
        for weight in self._weights:
            if weight.name not in self._visited:
                require_seen(weight, [])
        return [row[0].result for row in rows]

    def _pass(self, model: nn.Module, batch: Any) -> Pass:
        return Pass(lambda _: call(model, self._data, batch))

    def _step(self, passes: Sequence[Pass]) -> None:
        for one in passes:
            if one.at is None or one.at[0].name in self._visited:
                self._running = one
                try:
                    one.step()
                finally:
                    self._running = None

    def _hook(self, own: Sequence[Weight]) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def before(host: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            running = self._running
            if running is None:  # a call from outside, such as one that `visit` makes
                return
            for weight in own:
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
        """Return the moments over all batches that wait at a weight; those of the weight before if the inputs are the same."""
        here = [
            (row, tokens)
            for row, tokens in zip(rows, self._tokens, strict=True)
            if all(one.at is not None and one.at[0].name == weight.name for one in row)
        ]
        keys = []
        for row, tokens in here:
            for one in row:
                own, host, args, kwargs = one.at
                source = shown(host, own, args, kwargs)
                keys.append((source, version(source), tokens))
        if len(keys) == len(self._last[0]) and all(map(same, keys, self._last[0])):
            kept = self._last[1]
            return [replace(kept[0], outputs=slice(0, weight.matrix_shape[0]))]
        sums: list[Moments] = []
        for row, tokens in here:
            pieces = [
                list(seen(host, own, args, kwargs, tokens)) for own, host, args, kwargs in (one.at for one in row)
            ]
            for index, (outputs, inputs) in enumerate(pieces[0]):
                beside = pieces[1][index][1] if len(pieces) > 1 else None
                add_moments(sums, products(outputs, inputs, False, beside))
        self._last = (keys, sums)
        return sums


def _twins(model: nn.Module, weights: Sequence[Weight]) -> list[Weight]:
    """Return the same weights as they stand in a copy of the model."""
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
    """Return the weight that most passes wait for, the first of equals."""
    counts: dict[str, int] = {}
    wanted: dict[str, Weight] = {}
    for one in passes:
        weight = one.at[0]
        counts[weight.name] = counts.get(weight.name, 0) + 1
        wanted.setdefault(weight.name, weight)
    return wanted[max(counts, key=lambda name: counts[name])]
