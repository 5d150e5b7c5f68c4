"""Inputs of the weights of RNN, LSTM and GRU: a layer's input, and the hidden states it feeds back to itself."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

__all__ = ["cell_inputs", "recurrent_inputs"]

_NAME = re.compile(r"weight_(ih|hh)_l(\d+)(_reverse)?")


def cell_inputs(cell: nn.RNNCellBase, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """Return the inputs of a cell's weight, ``[B, K]``: the cell's input, or its hidden state before the step."""
    arguments = {**dict(zip(("input", "hx"), args, strict=False)), **kwargs}
    inputs: Tensor = arguments["input"]
    if name == "weight_ih":
        return inputs.detach().reshape(-1, cell.input_size)
    state = arguments.get("hx")
    if state is None:
        return inputs.new_zeros(inputs.numel() // cell.input_size, cell.hidden_size)
    hidden: Tensor = state[0] if isinstance(cell, nn.LSTMCell) else state
    return hidden.detach().reshape(-1, cell.hidden_size)


def recurrent_inputs(rnn: nn.RNNBase, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """Return the inputs of a weight of a recurrent module over all steps of one call.

    The layers below are run again one by one with their current weights. The result is ``[steps, K]`` for a packed sequence and
    ``[B, T, K]`` otherwise.
    """
    match = _NAME.fullmatch(name)
    assert match is not None
    kind, layer, reverse = match[1], int(match[2]), bool(match[3])
    arguments = {**dict(zip(("input", "hx"), args, strict=False)), **kwargs}
    source, sizes = _batch_first(rnn, arguments["input"])
    hidden, cells = _states(rnn, arguments.get("hx"), arguments["input"], source, sizes)
    for below in range(layer):
        source = _run(rnn, below, source, sizes, hidden, cells)
    if kind == "ih":
        return source
    outputs = _run(rnn, layer, source, sizes, hidden, cells)
    directions = 2 if rnn.bidirectional else 1
    states = outputs.chunk(directions, dim=-1)[int(reverse)]
    first = hidden[layer * directions + int(reverse)]
    if sizes is None:
        lengths = torch.full((len(states),), states.shape[1], device=states.device)
        return _before(states, lengths, first, reverse)
    padded, lengths = pad_packed_sequence(PackedSequence(states, sizes), batch_first=True)
    before = _before(padded, lengths.to(padded.device), first, reverse)
    return before[torch.arange(before.shape[1], device=before.device) < lengths.to(before.device)[:, None]]


def _before(outputs: Tensor, lengths: Tensor, first: Tensor, reverse: bool) -> Tensor:
    """Return the state at the start of each step, ``[B, T, H]``: the previous output, or the initial state for the first step."""
    if not reverse:
        return torch.cat([first.unsqueeze(1), outputs[:, :-1]], dim=1)
    before = torch.cat([outputs[:, 1:], torch.zeros_like(outputs[:, :1])], dim=1)
    before[torch.arange(len(before), device=before.device), lengths - 1] = first
    return before


def _batch_first(rnn: nn.RNNBase, source: Any) -> tuple[Tensor, Tensor | None]:
    """Return ``[B, T, K]`` and None, or the data of a packed sequence and its batch sizes."""
    if isinstance(source, PackedSequence):
        return source.data.detach(), source.batch_sizes
    source = source.detach()
    if source.ndim == 2:
        return source.unsqueeze(0), None
    return (source if rnn.batch_first else source.transpose(0, 1)), None


def _states(
    rnn: nn.RNNBase, state: Any, raw: Any, source: Tensor, sizes: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Return the initial hidden states, and cell states for an LSTM, ``[layers * directions, B, H]``."""
    width = rnn.proj_size or rnn.hidden_size
    count = rnn.num_layers * (2 if rnn.bidirectional else 1)
    batch = len(source) if sizes is None else int(sizes[0])
    if state is None:
        cells = source.new_zeros(count, batch, rnn.hidden_size) if rnn.mode == "LSTM" else None
        return source.new_zeros(count, batch, width), cells
    parts = [part.detach() for part in (state if rnn.mode == "LSTM" else (state,))]
    parts = [part.unsqueeze(1) if part.ndim == 2 else part for part in parts]
    if isinstance(raw, PackedSequence) and raw.sorted_indices is not None:
        parts = [part.index_select(1, raw.sorted_indices) for part in parts]
    return parts[0], parts[1] if len(parts) > 1 else None


def _run(
    rnn: nn.RNNBase, layer: int, source: Tensor, sizes: Tensor | None, hidden: Tensor, cells: Tensor | None
) -> Tensor:
    """Return the outputs of one layer, with both directions concatenated."""
    directions = 2 if rnn.bidirectional else 1
    group = slice(layer * directions, (layer + 1) * directions)
    start: Any = hidden[group].contiguous()
    if cells is not None:
        start = (start, cells[group].contiguous())
    weights = [weight for row in rnn.all_weights[group] for weight in row]
    step = getattr(torch, rnn.mode.lower())
    with torch.no_grad():
        if sizes is None:
            result = step(source, start, weights, rnn.bias, 1, 0.0, False, rnn.bidirectional, True)
        else:
            result = step(source, sizes, start, weights, rnn.bias, 1, 0.0, False, rnn.bidirectional)
    outputs: Tensor = result[0]
    return outputs
