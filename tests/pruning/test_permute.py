"""permute_ on real graphs: what is coupled, what is refused and why, and that the outputs are unchanged."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tilewright.errors import ArgumentError, CheckFailed, NotSupportedError, PatternError, TargetError
from tilewright.patterns import as_matrix, parse
from tilewright.pruning import kept_score, permute_, prunable, sparsify_
from tilewright.pruning.inputs.calibration import resting
from tilewright.pruning.permute import model as verb
from tilewright.pruning.permute.coupling import call, couple
from tilewright.pruning.permute.folding import fold_, group_of, unfold_

from .graphs import GRAPHS, build

FAST = {"seconds": None, "steps": 600}


def output(model: nn.Module, example: object) -> Tensor:
    with torch.no_grad(), resting(model):
        result = call(model, example)
    return result if isinstance(result, Tensor) else result[0]


def close(a: Tensor, b: Tensor) -> bool:
    tolerance = 1e-6 if a.dtype == torch.float64 else 5e-5
    return bool((a - b).abs().max() <= tolerance * b.abs().max())


def kept(model: nn.Module, text: str) -> float:
    pattern = parse(text)
    weights = [w for w in prunable(model) if not w.refusal(pattern)]
    return sum(kept_score(as_matrix(w.tensor.detach().abs().numpy(), w.layout), pattern) for w in weights)


def states(report: object) -> dict[str, str]:
    return {row["layers"]: row["state"] for row in report.rows}


@pytest.mark.parametrize("name", GRAPHS)
def test_any_order_of_any_group_leaves_the_output(name: str) -> None:
    model, example = build(name, torch.float64)
    before = output(model, example)
    weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with resting(model):
        if hasattr(model, "config"):
            model.config.use_cache = False
        coupling = couple(model, example)
    free = {atom for axes in coupling.axes.values() for axis in axes for term in axis for atom in term}
    free = {atom for atom in free if not coupling.atoms.reason(atom)}
    assert free
    rng = np.random.default_rng(0)
    folded = []
    for atom in sorted(free):
        group = group_of(coupling, atom)
        heads = int(np.prod([coupling.atoms.length(head) for head in group.heads]))
        orders = np.stack([rng.permutation(group.size) for _ in range(heads)])
        fold_(coupling, group, orders, {})
        folded.append((group, orders))
        assert close(output(model, example), before), group
    assert any(not torch.equal(tensor, weights[key]) for key, tensor in model.state_dict().items())
    for group, orders in reversed(folded):
        unfold_(coupling, group, orders, {})
    assert all(torch.equal(tensor, weights[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", GRAPHS)
def test_two_of_four_keeps_more_and_the_output_stays(name: str) -> None:
    model, example = build(name)
    before, dense = output(model, example), kept(model, "2:4")
    report = permute_(model, "2:4", example=example, **FAST)
    assert report.ok
    assert close(output(model, example), before)
    after = kept(model, "2:4")
    assert after > dense
    assert report.summary["kept before"] == pytest.approx(dense, rel=1e-5)
    assert report.summary["kept after"] == pytest.approx(after, rel=1e-5)
    assert report.summary["parameters the example does not reach"] == 0
    for row in report.rows:
        assert row["state"] == "folded" or row["after"] == row["before"]
        assert row["state"] != "folded" or (row["after"] > row["before"] and row["efficacy"] > 0)
    sparsify_(model, "2:4")


@pytest.mark.parametrize("text", ["1:4", "2:4x4", "4:16", "tw4@50%", "tew4@50%+5%", "tvw4@75%"])
@pytest.mark.parametrize("name", ["attention", "resnet"])
def test_other_patterns_never_keep_less(name: str, text: str) -> None:
    model, example = build(name)
    before, dense = output(model, example), kept(model, text)
    report = permute_(model, text, example=example, **FAST)
    assert close(output(model, example), before)
    assert kept(model, text) > dense * (1 if report.ok else 1 - 1e-9)


def test_the_stream_of_a_classifier_moves_in_one_piece_and_that_of_an_encoder_stays() -> None:
    model, example = build("bert-labels")
    rows = permute_(model, "2:4", example=example, **FAST).rows
    stream = next(row for row in rows if "pooler.dense.weight" in row["layers"])
    assert (stream["weights"], stream["channels"], stream["heads"], stream["state"]) == (9, 32, 1, "folded")
    values = next(row for row in rows if row["layers"] == "bert.encoder.layer.0.attention.output.dense.weight")
    assert (values["channels"], values["heads"]) == (8, 4)
    model, example = build("bert")
    state_of = states(permute_(model, "2:4", example=example, **FAST))
    assert [name for name, state in state_of.items() if state == "not folded: graph output"] == [
        ", ".join(
            f"encoder.layer.*.{name}.weight"
            for name in ("attention.self.query", "attention.self.key", "attention.self.value", "intermediate.dense")
        )
        + ", pooler.dense.weight"
    ]
    assert state_of["encoder.layer.1.output.dense.weight"] == "folded"


def test_grouped_queries_share_the_values_of_their_head_and_rotary_positions_stay() -> None:
    model, example = build("llama")
    rows = {row["layers"]: row for row in permute_(model, "2:4", example=example, **FAST).rows}
    assert (
        rows["model.layers.0.self_attn.o_proj.weight"]["heads"],
        rows["model.layers.0.self_attn.o_proj.weight"]["channels"],
    ) == (2, 8)
    assert all(row["state"] == "folded" for row in rows.values())
    model, example = build("llama")
    state_of = states(permute_(model, "tw4@50%", example=example, **FAST))
    for part in ("q_proj", "k_proj"):
        assert "rotary" in state_of[f"model.layers.0.self_attn.{part}.weight"]
    assert state_of["lm_head.weight"] == "not folded: graph output"


def test_groups_that_reach_over_heads_are_searched_over_all_of_them() -> None:
    model, example = build("attention")  # two heads of eight, groups of three
    before = output(model, example)
    rows = {row["layers"]: row for row in permute_(model, "1:3", example=example, **FAST).rows}
    values = rows["attention.out_proj.weight"]
    assert (values["channels"], values["heads"], values["state"]) == (8, 2, "folded")
    assert close(output(model, example), before)
    model, example = build("gpt2")  # four heads of eight, groups of sixteen: no order within a head changes any group
    rows = {row["layers"]: row for row in permute_(model, "4:16", example=example, **FAST).rows}
    assert rows["transformer.h.0.attn.c_proj.weight"]["state"] == "already in the best order found"


def test_reasons_name_the_operation_and_its_module() -> None:
    model, example = build("grouped")
    state_of = states(permute_(model, "2:4", example=example, **FAST))
    assert state_of["stem.weight"] == "not folded: graph input"
    assert state_of["grouped.weight"] == "not folded: grouped convolution at aten.conv2d in grouped"
    assert "group norm" in state_of["wide.weight"] or "grouped conv" in state_of["wide.weight"]
    assert state_of["last.weight"] == "folded"

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 16), nn.Linear(16, 16), nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.b(self.a(x).cumsum(-1)).sort(-1).values)

    state_of = states(permute_(Odd(), "2:4", example=torch.randn(2, 4), **FAST))
    assert state_of["b.weight"] == "not folded: order matters at aten.cumsum"
    assert state_of["c.weight"] == "not folded: unknown operation aten.sort"


def test_similarities_leave_the_embedding_free() -> None:
    class Similar(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, tokens: Tensor) -> Tensor:
            pooled = self.inner(tokens).last_hidden_state.mean(dim=1)
            return pooled @ pooled.T

    model, example = build("bert")
    report = permute_(Similar(model), "2:4", example=example["input_ids"], **FAST)
    assert sum(row["state"] == "folded" for row in report.rows) == 5


def test_tied_embeddings_stay_tied() -> None:
    model, example = build("gpt2")
    permute_(model, "2:4", example=example, **FAST)
    assert model.lm_head.weight is model.transformer.wte.weight


def test_modes_flags_and_settings_come_back() -> None:
    model, example = build("gpt2")
    model.train()
    model.transformer.h[0].eval()
    permute_(model, "2:4", example=example, **FAST)
    assert model.training
    assert not model.transformer.h[0].training
    assert model.config.use_cache
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_targets_choose_what_counts() -> None:
    model, example = build("encoder")
    report = permute_(model, "1:8", example=example, targets={"1.linear2": "2:4"}, **FAST)
    assert [row["layers"] for row in report.rows] == ["1.linear2.weight"]
    report = permute_(model, "2:4", example=example, ignore=["1.*", "0"], **FAST)
    assert [row["layers"] for row in report.rows] == ["2.weight"]
    with pytest.raises(TargetError, match="matches nothing"):
        permute_(model, "2:4", example=example, targets=["nowhere"])


def test_seeds_and_steps_decide() -> None:
    results = []
    for _ in range(2):
        model, example = build("encoder")
        permute_(model, "2:4", example=example, **FAST)
        results.append(model.state_dict())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types(dtype: torch.dtype) -> None:
    model, example = build("encoder", dtype)
    assert permute_(model, "2:4", example=example, **FAST).ok


def test_a_change_of_the_output_puts_everything_back(monkeypatch: pytest.MonkeyPatch) -> None:
    model, example = build("resnet")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    honest = verb.couple

    def forgetful(*given):
        coupling = honest(*given)
        del coupling.axes["second_norm.bias"]
        return coupling

    monkeypatch.setattr(verb, "couple", forgetful)
    with pytest.raises(
        CheckFailed, match=r"the output changed by .* more than rounding in torch.float32; the model was restored"
    ):
        permute_(model, "2:4", example=example, **FAST)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_refusals_are_sentences() -> None:
    model, example = build("encoder")
    with pytest.raises(ArgumentError, match="pass example=, one batch as the model takes it"):
        permute_(model, "2:4")
    with pytest.raises(ArgumentError, match="unknown score 'size'; expected one of 'magnitude'"):
        permute_(model, "2:4", example=example, score="size")
    for text in ("any@50%", "block4x4@50%", "2:4t"):
        with pytest.raises(PatternError, match=r"it supports n:m along K, banks, tw, tew and tvw"):
            permute_(model, text, example=example)
    sparsify_(model, "2:4")
    with pytest.raises(ArgumentError, match="Sequential is already pruned; call permute_ before sparsify_"):
        permute_(model, "2:4", example=example)

    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) if x.sum() > 0 else x

    with pytest.raises(NotSupportedError, match=r"torch\.export cannot capture Branching on this example"):
        permute_(Branching(), "2:4", example=torch.ones(2, 8))
