"""Never slower: the faster form runs, the choice is kept in a file, and every layer has its reason."""

import json
import os
from pathlib import Path

import pytest
import torch
from models import gpt2, perceptron
from torch import nn

import tilewright
from tilewright.runtime import SparseLinear, choice, choose, sparse_layers


@pytest.fixture
def saved(tmp_path, monkeypatch):
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path / "cache"))
    model = perceptron()
    tilewright.sparsify_(model, "2:4")
    tilewright.save(model, tmp_path / "m")
    return model, tmp_path / "m"


def measured(monkeypatch, ratio):
    calls = []

    def fake(dense, sparse, x):
        calls.append(len(x))
        return ratio

    monkeypatch.setattr(choice, "_ratio", fake)
    return calls


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
    monkeypatch.setattr(choice, "_ratio", lambda dense, sparse, x: 0.9 if len(x) == 16 else 3.0)
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


@pytest.mark.parametrize("text", ["", "{", "[]", '{"x": 1}', "null"])
def test_a_broken_cache_counts_as_empty(saved, monkeypatch, text):
    calls = measured(monkeypatch, 1.5)
    folder = Path(os.environ["TILEWRIGHT_CACHE"])
    folder.mkdir()
    (folder / "choices.json").write_text(text)
    tilewright.load_(perceptron(), saved[1])
    assert calls
    assert all(
        "ratios" in entry
        for entry in json.loads((folder / "choices.json").read_text()).values()
        if isinstance(entry, dict)
    )


def test_broken_entries_are_measured_again(saved, monkeypatch):
    calls = measured(monkeypatch, 1.5)
    tilewright.load_(perceptron(), saved[1])
    file = Path(os.environ["TILEWRIGHT_CACHE"]) / "choices.json"
    file.write_text(json.dumps({key: {"ratios": "none"} for key in json.loads(file.read_text())}))
    before = len(calls)
    tilewright.load_(perceptron(), saved[1])
    assert len(calls) == 2 * before


def test_a_cache_that_cannot_be_written_is_done_without(saved, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path / "file" / "below"))
    assert len(sparse_layers(tilewright.load_(perceptron(), saved[1], measure=False))) == 2
    tilewright.load_(perceptron(), saved[1])


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


GOOD = {"sparse": True, "ratios": {"16": 2.0, "128": 2.0}, "kernel": "avx2", "threads": 1}
BROKEN = [
    {"ratios": {}}, {"ratios": []}, {"ratios": None}, {"ratios": {"x": 2.0}}, {"ratios": {"-1": 2.0}}, {"ratios": {"16": None}}, {"ratios": {"16": "2"}},
    {"ratios": {"16": float("nan")}}, {"ratios": {"16": float("inf")}}, {"ratios": {"16": 0}}, {"ratios": {"16": 10**400}}, {"ratios": {"16": True}}, {"ratios": {"9" * 5000: 2.0}},
    {"ratios": {"16": 0.5}}, {"sparse": "no"}, {"sparse": None}, {"sparse": 1}, {"kernel": None}, {"kernel": 7}, {"threads": "many"}, {"threads": float("inf")}, {"threads": None}, {"threads": []},
]  # fmt: skip


@pytest.mark.parametrize("change", BROKEN, ids=lambda change: str(change)[:40])
def test_a_broken_entry_is_measured_again(saved, monkeypatch, change):
    calls = measured(monkeypatch, 1.5)
    tilewright.load_(perceptron(), saved[1])
    file, first = Path(os.environ["TILEWRIGHT_CACHE"]) / "choices.json", len(calls)
    file.write_text(json.dumps({key: {**GOOD, **change} for key in json.loads(file.read_text())}))
    tilewright.load_(perceptron(), saved[1])
    assert len(calls) == 2 * first
    assert all(entry["ratios"] == {"16": 1.5, "128": 1.5} for entry in json.loads(file.read_text()).values())


def test_a_good_entry_is_taken(saved, monkeypatch):
    calls = measured(monkeypatch, 1.5)
    tilewright.load_(perceptron(), saved[1])
    file, first = Path(os.environ["TILEWRIGHT_CACHE"]) / "choices.json", len(calls)
    file.write_text(json.dumps(dict.fromkeys(json.loads(file.read_text()), GOOD)))
    tilewright.load_(perceptron(), saved[1])
    assert len(calls) == first


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a": 1}', b"9" * 5000, b"{}" + b" " * (17 << 20)],
    ids=lambda c: repr(c[:8]),
)
def test_a_broken_file_counts_as_empty(saved, monkeypatch, content):
    calls = measured(monkeypatch, 1.5)
    file = Path(os.environ["TILEWRIGHT_CACHE"]) / "choices.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    tilewright.load_(perceptron(), saved[1])
    assert calls


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: os.symlink(path, path)], ids=["pipe", "folder", "loop"]
)
def test_what_is_no_file_counts_as_empty_and_stays(saved, monkeypatch, make):
    calls = measured(monkeypatch, 1.5)
    file = Path(os.environ["TILEWRIGHT_CACHE"]) / "choices.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    make(file)
    tilewright.load_(perceptron(), saved[1])
    assert calls
