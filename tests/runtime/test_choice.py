"""Never slower: the faster form runs, the choice is kept in a file, and every layer has its reason."""

import copy
import json
import os
from pathlib import Path

import pytest
import torch
from models import gpt2, perceptron
from torch import nn

import tilewright
from tilewright.errors import ArgumentError
from tilewright.runtime import Choice, SparseLinear, choose, sparse_layers
from tilewright.runtime.measured import choice
from tilewright.runtime.measured.memory import Memory
from tilewright.runtime.measured.timing import Timing


@pytest.fixture
def saved(tmp_path, monkeypatch):
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path / "cache"))
    model = perceptron()
    tilewright.sparsify_(model, "2:4")
    tilewright.save(model, tmp_path / "m")
    return model, tmp_path / "m"


def measured(monkeypatch, ratio, whole=2.0, quiet=True):
    """Make every layer measure one ratio (a number, or a function of the tokens), and every whole model another."""
    calls = []

    def fake(dense, sparse, inputs):
        calls.extend(map(len, inputs))
        return [Timing(ratio(len(x)) if callable(ratio) else ratio, 1.0, quiet) for x in inputs]

    monkeypatch.setattr(choice, "timings", fake)
    monkeypatch.setattr(
        choice, "whole_ratios", lambda model, sparse, counts: {count: Timing(whole, 1.0, quiet) for count in counts}
    )
    return calls


def remembered():
    file = Path(os.environ["TILEWRIGHT_CACHE"]) / "choices.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_a_faster_layer_stays_sparse(saved, monkeypatch):
    calls = measured(monkeypatch, 1.5)
    fresh = tilewright.load_(perceptron(), saved[1])
    assert len(sparse_layers(fresh)) == 2
    assert calls == [16, 128, 16, 128]
    row = tilewright.explain(fresh).rows[0]
    assert row["reason"].startswith("sparse: measured 1.50x dense at 16 tokens, 1.50x dense at 128 tokens")
    assert row["ratio"] == 1.5


def test_a_slower_layer_runs_dense_and_says_so(saved, monkeypatch):
    measured(monkeypatch, 0.8)
    model, path = saved
    fresh = tilewright.load_(perceptron(), path)
    assert not sparse_layers(fresh)
    assert isinstance(fresh[0], nn.Linear)
    x = torch.randn(4, 64)
    torch.testing.assert_close(fresh(x), model(x), atol=1e-5, rtol=1e-4)
    row = tilewright.explain(fresh).rows[0]
    assert (row["runs"], row["pattern"]) == ("dense", "2:4")
    assert row["reason"].startswith("dense: measured 0.80x dense at 16 tokens")


def test_one_slow_size_is_enough_to_stay_dense(saved, monkeypatch):
    measured(monkeypatch, lambda tokens: 0.9 if tokens == 16 else 3.0)
    assert not sparse_layers(tilewright.load_(perceptron(), saved[1]))


def test_the_caller_can_say_how_many_tokens(saved, monkeypatch):
    calls = measured(monkeypatch, 2.0)
    tilewright.load_(perceptron(), saved[1], tokens=4)
    assert calls == [4, 4]


def test_generating_models_are_measured_at_one_token(tmp_path, monkeypatch):
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path / "cache"))
    calls = measured(monkeypatch, 2.0)
    model = gpt2()
    tilewright.sparsify_(model, "2:4", targets=["transformer.h.*"])
    tilewright.save(model, tmp_path / "m")
    tilewright.load(tmp_path / "m")
    assert set(calls) == {1, 128}


def test_a_measurement_is_made_once(saved, monkeypatch):
    calls = measured(monkeypatch, 1.5)
    tilewright.load_(perceptron(), saved[1])
    first = len(calls)
    tilewright.load_(perceptron(), saved[1])
    assert len(calls) == first


def test_two_processes_lose_nothing(saved, monkeypatch):
    """Both read the file before either writes to it."""
    measured(monkeypatch, 1.5)
    first, second = Memory(), Memory()
    first.put("a", Choice(True, {1: 2.0}, "generic", 1))
    second.put("b", Choice(False, {1: 0.5}, "generic", 1))
    assert Memory().items().keys() == {"a", "b"}
    assert Memory().get("b") == Choice(False, {1: 0.5}, "generic", 1)


def test_measuring_again_replaces_what_was_remembered(saved, monkeypatch):
    measured(monkeypatch, 0.8)
    assert not sparse_layers(tilewright.load_(perceptron(), saved[1]))
    calls = measured(monkeypatch, 1.5)
    assert not sparse_layers(tilewright.load_(perceptron(), saved[1]))
    assert not calls
    assert len(sparse_layers(tilewright.load_(perceptron(), saved[1], measure="again"))) == 2
    assert calls == [16, 128, 16, 128]
    assert len(sparse_layers(tilewright.load_(perceptron(), saved[1]))) == 2
    with pytest.raises(ArgumentError, match="measure must be True, False or 'again'"):
        tilewright.load_(perceptron(), saved[1], measure="never")


def test_what_a_busy_machine_measures_is_not_kept(saved, monkeypatch):
    calls = measured(monkeypatch, 0.8, quiet=False)
    fresh = tilewright.load_(perceptron(), saved[1])
    assert calls == [16, 128] * 2
    assert not sparse_layers(fresh)
    assert not remembered()
    reason = tilewright.explain(fresh).rows[0]["reason"]
    assert reason.endswith("; the machine was busy, so this is not kept")


@pytest.mark.parametrize("first", [0.05, 50.0])
def test_an_implausible_figure_is_measured_twice(saved, monkeypatch, first):
    ratios = iter([first, 1.5] * 4)
    calls = measured(monkeypatch, lambda tokens: next(ratios))
    tilewright.load_(perceptron(), saved[1], tokens=16)
    assert calls == [16] * 4
    assert not [
        entry for entry in remembered() if not entry["key"].startswith("Sequential")
    ]  # the two measurements disagree
    calls = measured(monkeypatch, first)
    tilewright.load_(perceptron(), saved[1], tokens=16)
    assert calls == [16] * 4
    layers = [entry for entry in remembered() if not entry["key"].startswith("Sequential")]
    assert [entry["confirmed"] for entry in layers] == [True, True]
    tilewright.load_(perceptron(), saved[1], tokens=16)
    assert calls == [16] * 4  # confirmed, so accepted


@pytest.mark.parametrize(("ratio", "plausible"), [(0.2499, False), (0.25, True), (6.0, True), (6.001, False)])
def test_where_plausible_ends(ratio, plausible):
    assert choice._plausible(Choice(True, {1: 1.0, 16: ratio}, "generic", 1), density=0.5) == plausible


@pytest.mark.parametrize(("whole", "layers"), [(0.969, 0), (0.97, 2)])
def test_a_whole_model_that_is_slower_runs_dense(saved, monkeypatch, whole, layers):
    measured(monkeypatch, 1.5, whole)
    fresh = tilewright.load_(perceptron(), saved[1])
    assert len(sparse_layers(fresh)) == layers
    reason = tilewright.explain(fresh).rows[0]["reason"]
    assert reason.startswith(
        "sparse: " if layers else "dense: with its sparse layers the whole model measured 0.97x dense"
    )
    x = torch.randn(4, 64)
    torch.testing.assert_close(fresh(x), saved[0](x), atol=1e-5, rtol=1e-4)


def test_the_layer_as_it_was_is_what_a_layer_is_held_against(tmp_path, monkeypatch):
    """GPT-2's layers store their weight [K, N] and multiply with another routine; BERT's are followed by an activation."""
    from models import bert
    from transformers.pytorch_utils import Conv1D

    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path / "cache"))
    kinds = []
    measured(monkeypatch, 1.5)
    fake = choice.timings
    monkeypatch.setattr(
        choice, "timings", lambda dense, sparse, x: (kinds.append((dense, sparse)), fake(dense, sparse, x))[1]
    )
    for number, (model, target) in enumerate([(gpt2(), "transformer.h.*"), (bert(), "encoder.layer.0.intermediate*")]):
        kinds.clear()
        tilewright.sparsify_(model, "2:4", targets=[target])
        tilewright.save(model, tmp_path / str(number))
        tilewright.load(tmp_path / str(number))
        assert kinds
        for dense, sparse in kinds:
            assert type(dense) is Conv1D if number == 0 else sparse.activation == "gelu"
            x = torch.randn(3, sparse.in_features)
            torch.testing.assert_close(dense(x), sparse(x), atol=1e-4, rtol=1e-4)


def test_layers_of_one_kind_are_measured_once(tmp_path, monkeypatch):
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path / "cache"))
    calls = measured(monkeypatch, 1.5, quiet=False)  # nothing is kept on disk
    model = nn.Sequential(*(nn.Linear(64, 64) for _ in range(5)))
    tilewright.sparsify_(model, "2:4")
    tilewright.save(model, tmp_path / "m")
    tilewright.load_(copy.deepcopy(model), tmp_path / "m", tokens=8)
    assert calls == [8]


def test_a_cache_that_cannot_be_written_is_done_without(saved, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path / "file" / "below"))
    measured(monkeypatch, 1.5)
    assert len(sparse_layers(tilewright.load_(perceptron(), saved[1]))) == 2


@pytest.mark.slow
def test_real_measurements_are_positive_numbers():
    model = perceptron()
    tilewright.sparsify_(model, "2:4")
    from tilewright.formats import pack
    from tilewright.patterns import NM

    layer = SparseLinear(pack(model[0].weight.detach().numpy(), NM(2, 4)), model[0].bias)
    found = choose(layer)
    assert set(found.ratios) == {16, 128}
    assert all(ratio > 0 for ratio in found.ratios.values())
    assert found.sparse == (min(found.ratios.values()) >= 1)


def test_a_fused_activation_survives_going_dense(tmp_path, monkeypatch):
    from models import bert

    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path / "cache"))
    measured(monkeypatch, 0.5)
    model = bert()
    tilewright.sparsify_(model, "2:4", targets=["encoder.*"])
    tilewright.save(model, tmp_path / "m")
    fresh = tilewright.load(tmp_path / "m")
    assert not sparse_layers(fresh)
    ids = torch.randint(0, 100, (3, 9))
    torch.testing.assert_close(fresh(ids).last_hidden_state, model(ids).last_hidden_state, atol=1e-4, rtol=1e-3)
    rows = {row["layer"]: row for row in tilewright.explain(fresh).rows}
    assert rows["encoder.layer.0.intermediate.dense"]["pattern"] == "2:4"


BROKEN = [
    {"ratios": {}}, {"ratios": []}, {"ratios": None}, {"ratios": {"x": 2.0}}, {"ratios": {"-1": 2.0}}, {"ratios": {"16": None}}, {"ratios": {"16": "2"}},
    {"ratios": {"16": float("nan")}}, {"ratios": {"16": float("inf")}}, {"ratios": {"16": 0}}, {"ratios": {"16": 10**400}}, {"ratios": {"16": True}}, {"ratios": {"9" * 5000: 2.0}},
    {"ratios": {"16": 0.5}}, {"sparse": "no"}, {"sparse": None}, {"sparse": 1}, {"kernel": None}, {"kernel": 7}, {"threads": "many"}, {"threads": float("inf")}, {"threads": None}, {"threads": []},
    {"key": 3}, {"confirmed": "yes"}, {"layer": [1]},
]  # fmt: skip


@pytest.mark.parametrize("change", BROKEN, ids=lambda change: str(change)[:40])
def test_a_broken_entry_is_measured_again(saved, monkeypatch, change):
    calls = measured(monkeypatch, 1.5)
    tilewright.load_(perceptron(), saved[1])
    first = len(calls)
    write([{**entry, **change} for entry in remembered()])
    tilewright.load_(perceptron(), saved[1])
    assert len(calls) == 2 * first
    tilewright.load_(perceptron(), saved[1])
    assert len(calls) == 2 * first


def test_a_good_entry_is_taken(saved, monkeypatch):
    calls = measured(monkeypatch, 1.5)
    tilewright.load_(perceptron(), saved[1])
    first = len(calls)
    write([{**entry, "ratios": {"16": 2.0, "128": 2.0}} for entry in remembered()])
    fresh = tilewright.load_(perceptron(), saved[1])
    assert len(calls) == first
    assert tilewright.explain(fresh).rows[0]["ratio"] == 2.0


def write(entries):
    file = Path(os.environ["TILEWRIGHT_CACHE"]) / "choices.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a": 1}', b"9" * 5000, b"{}" + b" " * (17 << 20)],
    ids=lambda c: repr(c[:8]),
)
def test_a_broken_file_counts_as_empty(saved, monkeypatch, content):
    calls = measured(monkeypatch, 1.5)
    file = Path(os.environ["TILEWRIGHT_CACHE"]) / "choices.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    tilewright.load_(perceptron(), saved[1])
    assert calls


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: os.symlink(path, path)], ids=["pipe", "folder", "loop"]
)
def test_what_is_no_file_counts_as_empty_and_stays(saved, monkeypatch, make):
    calls = measured(monkeypatch, 1.5)
    file = Path(os.environ["TILEWRIGHT_CACHE"]) / "choices.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    make(file)
    tilewright.load_(perceptron(), saved[1])
    assert calls
