"""`tilewright advise` on a tiny model: its output, its exit code, and that its advice can be followed."""

import pytest


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch = pytest.importorskip("torch")
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("advise") / "bert"
    config = BertConfig(
        vocab_size=40,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=512,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(place)
    return place


def test_a_pattern_a_layer_for_an_accelerator(tilewright, folder):
    dense = tilewright("advise", folder, "--target", "sta", "--latency", "1s", "--batch", 8, "--sequence", 64, "--json")
    assert dense.code == 0, dense.err
    assert {row["pattern"] for row in dense.body["rows"]} == {"dense"}
    limit = 0.8e6 * dense.body["summary"]["dense latency, s"]
    words = ("--target", "sta", "--latency", f"{limit:.3f}us", "--batch", 8, "--sequence", 64, "--patterns", "2:8, 4:8")
    result = tilewright("advise", folder, *words, "--ignore", "pooler.dense", "--json")
    assert result.code == 0, result.err
    rows = {row["name"]: row for row in result.body["rows"]}
    assert {row["pattern"] for row in rows.values()} <= {"dense", "2:8", "4:8"}
    assert any(row["pattern"] != "dense" for row in rows.values())
    assert rows.get("pooler.dense.weight", {"pattern": "dense"})["pattern"] == "dense"
    summary = result.body["summary"]
    assert summary["predicted latency, s"] <= summary["latency, limit"]
    assert summary["predicted latency, low"] <= summary["predicted latency, s"] <= summary["predicted latency, high"]


def test_what_cannot_be_met_is_exit_code_1_and_says_the_least(tilewright, folder):
    result = tilewright("advise", folder, "--target", "s4", "--latency", "1us")
    assert result.code == 1
    assert "cannot: 1e-06 s cannot be met with these patterns: the least is" in result.out


def test_a_size(tilewright, folder):
    result = tilewright("advise", folder, "--target", "s4", "--size", "1MB", "--json")
    assert result.code == 0, result.out + result.err
    assert result.body["summary"]["predicted bytes"] <= 1e6 < result.body["summary"]["dense bytes"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--target", "s4"), "give a limit: --latency 5ms, --size 20MB, or both"),
        (("--latency", "5"), "--latency takes a number above 0 with a unit (s, ms, us), got '5'"),
        (("--latency", "0ms"), "--latency takes a number above 0"),
        (("--size", "5ms"), "--size takes a number above 0 with a unit"),
        (("--latency", "5ms", "--target", "s5"), "unknown accelerator 's5'"),
        (("--latency", "5ms", "--patterns", "2:"), "2:"),
        (("--latency", "5ms", "--target", "s4", "--dtype", "float16"), "s4 does not multiply float16"),
    ],
)
def test_refusals(tilewright, folder, words, sentence):
    result = tilewright("advise", folder, *words)
    assert result.code == 2
    assert result.out == ""
    assert sentence in result.err


def test_a_folder_without_a_model(tilewright, tmp_path):
    result = tilewright("advise", tmp_path, "--target", "s4", "--latency", "5ms")
    assert result.code == 2
    assert "has no config.json" in result.err
