"""Expressions: what they match, and the error message when they match nothing."""

import pytest
from torch import nn

from tilewright.errors import TargetError
from tilewright.pruning import masks_of, sparsify_


def model() -> nn.Module:
    block = nn.ModuleDict({"query": nn.Linear(8, 8), "key": nn.Linear(8, 8), "norm": nn.LayerNorm(8)})
    other = nn.ModuleDict({"query": nn.Linear(8, 8), "conv": nn.Conv1d(8, 8, 1), "rnn": nn.RNN(8, 8)})
    return nn.ModuleDict({"encoder": nn.ModuleList([block, other]), "embeddings": nn.Embedding(4, 8)})


ALL = {
    "encoder.0.query.weight",
    "encoder.0.key.weight",
    "encoder.1.query.weight",
    "encoder.1.conv.weight",
    "encoder.1.rnn.weight_ih_l0",
    "encoder.1.rnn.weight_hh_l0",
}


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (None, ALL),
        (["encoder.0.query"], {"encoder.0.query.weight"}),
        (["encoder.1.rnn.weight_hh_l0"], {"encoder.1.rnn.weight_hh_l0"}),
        (["encoder.1.rnn"], {"encoder.1.rnn.weight_ih_l0", "encoder.1.rnn.weight_hh_l0"}),
        (["*.query"], {"encoder.0.query.weight", "encoder.1.query.weight"}),
        (["encoder.*"], ALL),
        (["encoder.[0]*"], {"encoder.0.query.weight", "encoder.0.key.weight"}),
        ([r"re:encoder\.\d\.query"], {"encoder.0.query.weight", "encoder.1.query.weight"}),
        (["Conv1d"], {"encoder.1.conv.weight"}),
        (["RNNBase"], {"encoder.1.rnn.weight_ih_l0", "encoder.1.rnn.weight_hh_l0"}),
    ],
)
def test_what_expressions_mean(targets: list[str] | None, expected: set[str]) -> None:
    pruned = model()
    sparsify_(pruned, "2:4", targets=targets)
    assert set(masks_of(pruned)) == expected


def test_ignore_wins_over_targets_and_may_name_what_is_dense_anyway() -> None:
    pruned = model()
    sparsify_(pruned, "2:4", targets=["encoder.*"], ignore=["embeddings", "*norm", "*.rnn", "re:.*conv"])
    assert set(masks_of(pruned)) == {"encoder.0.query.weight", "encoder.0.key.weight", "encoder.1.query.weight"}


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (
            ["encoder.0.qery"],
            r"targets 'encoder\.0\.qery' matches nothing in ModuleDict; did you mean encoder\.0\.query",
        ),
        (["*.query", "decoder.*"], r"targets 'decoder\.\*' matches nothing"),
        (
            ["encoder.0"],
            r"'encoder\.0' has no weight of its own; for the 2 modules inside it, write 'encoder\.0\.\*'",
        ),
        (["embeddings"], r"matches 'embeddings' \(Embedding\), which has no prunable weight"),
        ([r"re:encoder\.\d"], r"targets 're:encoder\\\\\.\\\\d' matches 'encoder.0' \(ModuleDict\)"),
        (["re:("], r"'re:\(' is not a regular expression: missing"),
        (
            ["zzzzzz"],
            r"'zzzzzz' matches nothing in ModuleDict; did you mean encoder\.0\.query or encoder\.0\.key",
        ),
    ],
)
def test_an_expression_that_means_nothing_is_an_error(targets: list[str], message: str) -> None:
    pruned = model()
    with pytest.raises(TargetError, match=message):
        sparsify_(pruned, "2:4", targets=targets)
    assert not masks_of(pruned)


def test_ignore_that_means_nothing_is_an_error() -> None:
    with pytest.raises(
        TargetError,
        match=r"ignore 'encoder\.0\.keys' matches nothing in ModuleDict; did you mean encoder\.0\.key",
    ):
        sparsify_(model(), "2:4", ignore=["encoder.0.keys"])
