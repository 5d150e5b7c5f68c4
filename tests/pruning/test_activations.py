"""Inputs of weights read from calls: the moments of every layer type against what the layer itself computes."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from tilewright.errors import ArgumentError, NotSupportedError
from tilewright.pruning import Calibration, Weight, prunable, sparsify_
from tilewright.pruning.inputs.activations import Moments, collect
from tilewright.pruning.matrices import as_rows, as_stored

from .models import Conv1D

DOUBLE = torch.float64


def gathered(model: nn.Module, *args: object, **kwargs: object) -> dict[str, tuple[Weight, list[Moments]]]:
    model.double()
    data = Calibration([0], forward=lambda m, _: m(*args, **kwargs))
    weights = prunable(model)
    return {w.name: (w, sums) for w, sums in zip(weights, collect(model, weights, data).values(), strict=True)}


def power(weight: Weight, sums: list[Moments]) -> Tensor:
    """Return ``||w X||^2`` of every output."""
    rows = as_rows(weight, weight.tensor.detach())
    out = torch.zeros(len(rows), dtype=DOUBLE)
    for moments in sums:
        own = rows[moments.outputs]
        out[moments.outputs] = ((own @ moments.gram) * own).sum(dim=1)
    return out


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@settings(max_examples=30)
@given(
    dims=st.integers(1, 3),
    groups=st.sampled_from([1, 3]),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    padding=st.sampled_from([0, 1, 2, "same", "valid"]),
    mode=st.sampled_from(["zeros", "circular", "reflect"]),
)
def test_convolutions_of_every_kind(
    dims: int, groups: int, kernel: int, stride: int, dilation: int, padding: int | str, mode: str
) -> None:
    torch.manual_seed(dims)
    make = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    conv = make(
        3,
        6,
        kernel,
        stride=1 if padding == "same" else stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        padding_mode=mode,
        bias=False,
    )
    x = torch.randn(2, 3, *(7, 5, 6)[:dims], dtype=DOUBLE)
    weight, sums = gathered(conv, x)["weight"]
    expected = conv(x).detach().movedim(1, 0).flatten(1).square().sum(dim=1)
    torch.testing.assert_close(power(weight, sums), expected)
    assert torch.equal(as_stored(weight, as_rows(weight, weight.tensor)), weight.tensor)


def test_linear_layers_stored_both_ways() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7, bias=False), Conv1D(3, 7))
    model[1].bias = nn.Parameter(torch.zeros(3))
    x = torch.randn(4, 6, 5, dtype=DOUBLE)
    collected = gathered(model, x)
    torch.testing.assert_close(power(*collected["0.weight"]), model[0](x).detach().square().sum(dim=(0, 1)))
    torch.testing.assert_close(power(*collected["1.weight"]), model(x).detach().square().sum(dim=(0, 1)))


def by_hand(rnn: nn.RNNBase, x: Tensor, length: int, hidden: list[Tensor]) -> dict[str, Tensor]:
    """Return X^T X of every weight for one sequence ``[T, K]``, computed step by step with cells that share the weights."""
    sums: dict[str, Tensor] = {}
    directions = 2 if rnn.bidirectional else 1
    kind = {"LSTM": nn.LSTMCell, "GRU": nn.GRUCell}.get(rnn.mode, nn.RNNCell)
    source = x[:length]
    for layer in range(rnn.num_layers):
        outs = []
        for direction in range(directions):
            suffix = f"_l{layer}{'_reverse' if direction else ''}"
            cell = kind(source.shape[1], rnn.hidden_size).double()
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(cell, name).data = getattr(rnn, name + suffix).data
            state = [part[layer * directions + direction].unsqueeze(0) for part in hidden]
            steps = [torch.zeros(0)] * length
            for t in reversed(range(length)) if direction else range(length):
                for name, row in (("weight_ih", source[t]), ("weight_hh", state[0][0])):
                    old = sums.get(name + suffix, 0)
                    sums[name + suffix] = old + torch.outer(row, row)
                new = cell(source[t : t + 1], tuple(state) if rnn.mode == "LSTM" else state[0])
                state = [part.detach() for part in (new if rnn.mode == "LSTM" else (new,))]
                steps[t] = state[0][0]
            outs.append(torch.stack(steps))
        source = torch.cat(outs, dim=1)
    return sums


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("form", ["time first", "batch first", "packed"])
def test_recurrent_layers_step_by_step(kind: type[nn.RNNBase], form: str) -> None:
    torch.manual_seed(0)
    rnn = kind(3, 4, num_layers=2, bidirectional=True, batch_first=form != "time first").double()
    lengths = [2, 5, 4] if form == "packed" else [5, 5, 5]
    x = torch.randn(3, 5, 3, dtype=DOUBLE)
    hidden = [torch.randn(4, 3, 4, dtype=DOUBLE) for _ in range(2 if kind is nn.LSTM else 1)]
    given_x: object = x if form == "batch first" else x.transpose(0, 1)
    if form == "packed":
        given_x = pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    collected = gathered(rnn, given_x, tuple(hidden) if kind is nn.LSTM else hidden[0])
    expected: dict[str, Tensor] = {}
    for row, length in enumerate(lengths):
        for name, gram in by_hand(rnn, x[row], length, [part[:, row] for part in hidden]).items():
            expected[name] = expected.get(name, 0) + gram
    assert set(collected) == set(expected)
    for name, (_, sums) in collected.items():
        torch.testing.assert_close(sums[0].gram, expected[name], msg=name)
        assert sums[0].count == sum(lengths)


def test_recurrent_states_that_are_not_given_are_zero_and_projections_are_followed() -> None:
    torch.manual_seed(0)
    rnn = nn.LSTM(3, 6, num_layers=2, proj_size=2)
    x = torch.randn(4, 3, dtype=DOUBLE)  # a single sequence without a batch axis
    collected = gathered(rnn, x)
    first = rnn.double()(x)[0]
    assert collected["weight_hh_l1"][1][0].gram.shape == (2, 2)
    expected = first[:-1].T @ first[:-1]
    torch.testing.assert_close(collected["weight_hh_l1"][1][0].gram, expected.detach())


def test_cells_are_followed_over_all_their_calls() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.LSTMCell(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            state = None
            for step in x:
                state = self.cell(step, state)
            assert state is not None
            return state[0]

    torch.manual_seed(0)
    loop, x = Loop(), torch.randn(5, 2, 3, dtype=DOUBLE)
    collected = gathered(loop, x)
    rows = x.reshape(-1, 3)
    torch.testing.assert_close(collected["cell.weight_ih"][1][0].gram, rows.T @ rows)
    assert collected["cell.weight_hh"][1][0].count == 10
    assert collected["cell.weight_hh"][1][0].gram.any()


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_of_one_and_of_three_inputs(batch_first: bool) -> None:
    torch.manual_seed(0)
    x, y, z = (torch.randn(2, t, 8, dtype=DOUBLE) for t in (3, 5, 5))
    packed = nn.MultiheadAttention(8, 2, batch_first=batch_first)
    turned = [part if batch_first else part.transpose(0, 1) for part in (x, y, z)]
    collected = gathered(packed, *turned)
    parts = collected["in_proj_weight"][1]
    assert [p.outputs for p in parts] == [slice(0, 8), slice(8, 16), slice(16, 24)]
    for part, rows in zip(parts, (x, y, z), strict=True):
        torch.testing.assert_close(part.gram, rows.reshape(-1, 8).T @ rows.reshape(-1, 8))
    same = gathered(copy.deepcopy(packed), turned[0], turned[0], value=turned[0])["in_proj_weight"][1]
    assert [p.outputs for p in same] == [slice(0, 24)]
    # The projection is undone: heads @ W^T + b is what the attention returns.
    weight, sums = collected["out_proj.weight"]
    nn.init.zeros_(packed.out_proj.bias)
    out = packed(*turned)[0].detach().reshape(-1, 8)
    torch.testing.assert_close(power(weight, sums), out.square().sum(dim=0))
    assert sums[0].count == 6
    apart = nn.MultiheadAttention(8, 2, kdim=5, vdim=3, batch_first=True)
    k, v = torch.randn(2, 4, 5, dtype=DOUBLE), torch.randn(2, 4, 3, dtype=DOUBLE)
    collected = gathered(apart, x, k, v)
    torch.testing.assert_close(collected["v_proj_weight"][1][0].gram, v.reshape(-1, 3).T @ v.reshape(-1, 3))
    torch.testing.assert_close(collected["k_proj_weight"][1][0].gram, k.reshape(-1, 5).T @ k.reshape(-1, 5))


def test_an_encoder_layer_is_taken_apart_though_torch_would_fuse_it() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    collected = gathered(layer, torch.randn(2, 3, 8, dtype=DOUBLE))
    assert all(sums for _, sums in collected.values())
    assert {"self_attn.out_proj.weight", "linear2.weight"} <= set(collected)


def padded() -> tuple[nn.Module, dict[str, Tensor], Tensor]:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor, attention_mask: Tensor) -> Tensor:
            return self.head((self.a(x) * self.b(x)).mean(dim=1))

    torch.manual_seed(0)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    return Tokens(), {"x": torch.randn(2, 3, 4), "attention_mask": mask}, mask.bool()


def test_padding_does_not_count() -> None:
    model, batch, mask = padded()
    weights = prunable(model)
    sums = collect(model, weights, Calibration([batch, batch]))
    rows = batch["x"][mask]
    torch.testing.assert_close(sums["a.weight"][0].gram, 2 * rows.T @ rows)
    assert (sums["a.weight"][0].count, sums["head.weight"][0].count) == (6, 4)
    everything = collect(model, weights, Calibration([batch], tokens=lambda b: None))
    assert everything["a.weight"][0].count == 6
    other = collect(model, weights, Calibration([batch], tokens=lambda b: ~b["attention_mask"].bool()))
    assert other["b.weight"][0].count == 3
    only = collect(model, weights, Calibration([batch], tokens=lambda b: mask), diagonal=True)
    torch.testing.assert_close(only["a.weight"][0].gram, rows.square().sum(dim=0))
    with pytest.raises(ArgumentError, match=r"calibration batch 0 it returned a tensor of torch\.int64"):
        collect(model, weights, Calibration([batch], tokens=lambda b: b["attention_mask"]))


def test_a_tensor_written_to_between_two_layers_is_not_shared() -> None:
    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = x.clone()
            first = self.a(x)
            return first + self.b(x.relu_())

    torch.manual_seed(0)
    model, x = Written(), torch.randn(6, 4)
    sums = collect(model, prunable(model), Calibration([x]))
    torch.testing.assert_close(sums["b.weight"][0].gram, x.relu().T @ x.relu())
    torch.testing.assert_close(sums["a.weight"][0].gram, x.T @ x)


def test_the_ways_a_model_is_called() -> None:
    model = nn.Bilinear(3, 3, 2)
    outer = nn.ModuleDict({"l": nn.Linear(3, 2)})
    outer.forward = lambda input, other=None: outer["l"](input)  # type: ignore[method-assign]
    x = torch.randn(5, 3)
    for batch in (x, (x,), [x, None], {"input": x, "other": 3}):
        sums = collect(outer, prunable(outer), Calibration([batch]))
        torch.testing.assert_close(sums["l.weight"][0].gram, x.T @ x)
    assert not prunable(model)


def test_what_cannot_be_known_is_said() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    x = torch.randn(3, 4)

    def run(data: Calibration | None, score: str = "wanda") -> None:
        before = [w.tensor.detach().clone() for w in prunable(model)]
        try:
            sparsify_(model, "2:4", score=score, data=data)
        finally:
            assert all(torch.equal(w.tensor, b) for w, b in zip(prunable(model), before, strict=True))

    for score in ("wanda", "second-order"):
        with pytest.raises(ArgumentError, match=rf"score '{score}' needs data=Calibration\(batches\)"):
            run(None, score)
        with pytest.raises(ArgumentError, match="no calibration batches"):
            run(Calibration([]), score)
    with pytest.raises(ArgumentError, match=r"1\.weight is never used on the calibration data"):
        run(Calibration([x], forward=lambda m, b: m[0](b)))
    with pytest.raises(ArgumentError, match=r"inputs of 0\.weight contain NaN"):
        run(Calibration([x * float("nan")]))
    with pytest.raises(NotSupportedError, match=r"all inputs of 0\.weight are zero"):
        run(Calibration([x * 0]))
    with pytest.raises(ArgumentError, match="taylor' needs data"):
        run(Calibration([x]), "taylor")
