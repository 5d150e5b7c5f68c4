"""Rules for recurrent layers: their inputs, and the hidden units shared by gates, recurrent weights and the next layer."""

from typing import Any

from torch import fx

from .axes import Axis
from .walk import Arguments, Axes, Walk, unknown

__all__ = ["gru", "lstm", "plain_rnn"]


def lstm(walk: Walk, arguments: Arguments) -> Any:
    """Couple an LSTM: four gates, and a state that is a pair."""
    return _recurrent(walk, arguments, gates=4, states=arguments.get("hx") or [])


def gru(walk: Walk, arguments: Arguments) -> Any:
    """Couple a GRU: three gates."""
    return _recurrent(walk, arguments, gates=3, states=[arguments.get("hx")])


def plain_rnn(walk: Walk, arguments: Arguments) -> Any:
    """Couple a plain RNN, which has no gates."""
    return _recurrent(walk, arguments, gates=1, states=[arguments.get("hx")])


def _recurrent(walk: Walk, arguments: Arguments, gates: int, states: list[Any]) -> Any:
    """Couple layer by layer. The two directions of a layer are consecutive features of the next; a state has one order for all layers."""
    x, params = walk.axes(arguments["input"]), arguments.get("params")
    directions = 2 if arguments.get("bidirectional") else 1
    per_layer = 4 if arguments.get("has_biases") else 2
    if not isinstance(params, list | tuple) or len(params) != per_layer * directions * arguments["num_layers"]:
        return unknown(walk, arguments)  # packed sequences, and projections of the hidden state
    features, hidden = x[-1], [walk.axes(weights)[1] for weights in params[1::per_layer]]
    for layer in range(arguments["num_layers"]):
        out: Axis = ()
        for direction in range(directions):
            index = layer * directions + direction
            parameters = [walk.axes(parameter) for parameter in params[index * per_layer : (index + 1) * per_layer]]
            walk.atoms.unify(features, parameters[0][1])
            _couple_gates(walk, parameters, hidden[index], gates)
            out += walk.atoms.resolve(hidden[index])
        features = out
    used_states = [walk.axes(state)[-1] for state in states if isinstance(state, fx.Node) and not walk.uniform(state)]
    if walk.uses_more_than_first() or used_states:
        for axis in (*hidden[1:], *used_states):
            walk.atoms.unify(hidden[0], axis)
    return _results(walk, [*x[:-1], features], hidden[0])


def _couple_gates(walk: Walk, parameters: list[Axes], hidden: Axis, gates: int) -> None:
    """Unify the rows of both weights and both biases with ``(gates, hidden)``."""
    hidden = walk.atoms.resolve(hidden)
    if len(hidden) != 1:
        walk.atoms.fix(hidden, f"hidden units of several kinds at {walk.where}")
        hidden = walk.atoms.new(walk.atoms.size(hidden), f"hidden units of several kinds at {walk.where}")
    rows: Axis = ((*walk.atoms.new(gates, f"gates of {walk.where}")[0], *hidden[0]),)
    for axes in parameters:
        walk.atoms.unify(axes[0], rows)


def _results(walk: Walk, first: Axes, hidden: Axis) -> list[Axes]:
    reason = f"layers and sequences of {walk.where}"
    states = [[*(walk.atoms.new(size, reason) for size in shape[:-1]), hidden] for shape in walk.shapes()[1:]]
    return [first, *states]
