"""Recurrent layers: what reads the input, and the hidden units that gates, recurrent weights and the next layer share."""

from typing import Any

from torch import fx

from .axes import Axis
from .walk import Axes, Given, Walk, unknown

__all__ = ["gru", "lstm", "plain_rnn"]


def lstm(walk: Walk, given: Given) -> Any:
    """Four gates; the state is a pair."""
    return _recurrent(walk, given, gates=4, states=given.get("hx") or [])


def gru(walk: Walk, given: Given) -> Any:
    """Three gates."""
    return _recurrent(walk, given, gates=3, states=[given.get("hx")])


def plain_rnn(walk: Walk, given: Given) -> Any:
    """No gates."""
    return _recurrent(walk, given, gates=1, states=[given.get("hx")])


def _recurrent(walk: Walk, given: Given, gates: int, states: list[Any]) -> Any:
    """Layer by layer; the two directions of one are two runs of features for the next. All layers share the order of a state."""
    x, params = walk.axes(given["input"]), given.get("params")
    directions = 2 if given.get("bidirectional") else 1
    a_layer = 4 if given.get("has_biases") else 2
    if not isinstance(params, list | tuple) or len(params) != a_layer * directions * given["num_layers"]:
        return unknown(walk, given)  # packed sequences, and projections of the hidden state
    features, hidden = x[-1], [walk.axes(weights)[1] for weights in params[1::a_layer]]
    for layer in range(given["num_layers"]):
        out: Axis = ()
        for direction in range(directions):
            number = layer * directions + direction
            own = [walk.axes(parameter) for parameter in params[number * a_layer : (number + 1) * a_layer]]
            walk.atoms.unify(features, own[0][1])
            _couple_gates(walk, own, hidden[number], gates)
            out += walk.atoms.resolve(hidden[number])
        features = out
    used = [walk.axes(state)[-1] for state in states if isinstance(state, fx.Node) and not walk.uniform(state)]
    if walk.uses_more_than_first() or used:
        for axis in (*hidden[1:], *used):
            walk.atoms.unify(hidden[0], axis)
    return _results(walk, [*x[:-1], features], hidden[0])


def _couple_gates(walk: Walk, own: list[Axes], hidden: Axis, gates: int) -> None:
    """Rows of both weights and both biases are ``(gates, hidden)``."""
    hidden = walk.atoms.resolve(hidden)
    if len(hidden) != 1:
        walk.atoms.fix(hidden, f"hidden units of several kinds at {walk.where}")
        hidden = walk.atoms.new(walk.atoms.size(hidden), f"hidden units of several kinds at {walk.where}")
    rows: Axis = ((*walk.atoms.new(gates, f"gates of {walk.where}")[0], *hidden[0]),)
    for axes in own:
        walk.atoms.unify(axes[0], rows)


def _results(walk: Walk, first: Axes, hidden: Axis) -> list[Axes]:
    reason = f"layers and sequences of {walk.where}"
    states = [[*(walk.atoms.new(size, reason) for size in shape[:-1]), hidden] for shape in walk.shapes()[1:]]
    return [first, *states]
