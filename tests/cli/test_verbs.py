"""Every verb on a real, tiny model: its output, where it goes, and the exit code."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

VERBS = ("run", "prune", "verify", "bench", "explain", "export", "simulate", "advise", "doctor")


@pytest.fixture(scope="session")
def packed(tiny_model, tmp_path_factory):
    from tilewright.cli import main

    place = tmp_path_factory.mktemp("packed") / "model"
    assert main(["prune", str(tiny_model), str(place), "--pattern", "2:4", "--quiet"]) == 0
    return place


@pytest.mark.parametrize("verb", VERBS)
def test_help_names_its_options(tilewright, verb):
    result = tilewright(verb, "--help")
    assert result.code == 0
    assert "--json" in result.out
    assert ("--dry-run" in result.out) == (verb in ("run", "prune", "bench"))
    assert result.err == ""


def test_help_lists_every_verb_and_the_exit_codes(tilewright):
    result = tilewright("--help")
    assert result.code == 0
    assert all(f" {verb} " in result.out for verb in VERBS)
    assert "1 a check failed" in result.out


def test_version(tilewright):
    import tilewright as package

    assert tilewright("--version").out == f"tilewright {package.__version__}\n"


def test_doctor_finds_this_machine_in_order(tilewright):
    result = tilewright("doctor", "--json")
    assert result.code == 0, result.out
    rows = {row["item"]: row for row in result.body["rows"]}
    assert rows["torch"]["state"] == "ok"
    assert rows["kernel generic"] == {
        "item": "kernel generic",
        "state": "ok",
        "found": "",
        "note": "matches the reference",
    }
    assert result.body["summary"]["verdict"] == "everything required works"


def test_doctor_fails_on_a_kernel_that_does_not_exist(tilewright, monkeypatch):
    monkeypatch.setenv("TILEWRIGHT_KERNEL", "avx1024")
    result = tilewright("doctor")
    assert result.code == 1
    assert "not available here; unset it" in result.out
    assert result.out.rstrip().endswith("verdict: broken: TILEWRIGHT_KERNEL")


def test_prune_writes_a_checkpoint_that_verifies(tilewright, tiny_model, tmp_path):
    out = tmp_path / "out"
    result = tilewright("prune", tiny_model, out, "--pattern", "2:4", "--ignore", "pooler.dense", "--json")
    assert result.code == 0
    rows = {row["name"]: row for row in result.body["rows"]}
    assert rows["encoder.layer.0.intermediate.dense.weight"]["density"] == 0.5
    assert "pooler.dense.weight" not in [name for name, row in rows.items() if row["density"] < 1]
    assert "prune to 2:4" in result.err
    size = sum(file.stat().st_size for file in out.glob("*.safetensors"))
    assert result.body["summary"]["MB written"] == round(size / 1e6, 1) > 0
    verified = tilewright("verify", out, "--json")
    assert (verified.code, verified.body["ok"]) == (0, True)
    assert {row["pattern"] for row in verified.body["rows"]} == {"2:4"}


def test_quiet_says_nothing_on_stderr(tilewright, tiny_model, tmp_path):
    result = tilewright("prune", tiny_model, tmp_path / "out", "--pattern", "2:4", "--quiet")
    assert result.code == 0
    assert "prune to" not in result.err


def test_a_dry_run_writes_nothing(tilewright, tiny_model, tmp_path):
    result = tilewright("prune", tiny_model, tmp_path / "out", "--pattern", "2:4", "--dry-run", "--json")
    assert result.code == 0
    assert result.body["rows"]
    assert list(tmp_path.iterdir()) == []


def test_verify_says_where_a_pattern_breaks(tilewright, tmp_path):
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((8, 16)).astype(np.float32)
    weight[:, 2::4] = weight[:, 3::4] = 0
    save_file({"fc.weight": weight}, tmp_path / "model.safetensors")
    good = tilewright("verify", tmp_path, "--pattern", "2:4", "--exact")
    assert good.code == 0, good.err
    weight[5, 6] = 1.0
    save_file({"fc.weight": weight}, tmp_path / "model.safetensors")
    bad = tilewright("verify", tmp_path, "--pattern", "2:4", "--json")
    assert bad.code == 1
    assert bad.body["ok"] is False
    assert "5" in json.dumps(bad.body["rows"])
    assert load_file(tmp_path / "model.safetensors")["fc.weight"][5, 6] == 1.0


def test_explain_gives_each_layer_a_reason(tilewright, packed):
    result = tilewright("explain", packed, "--json")
    assert result.code == 0, result.err
    assert len(result.body["rows"]) >= 12
    assert all(row["reason"] for row in result.body["rows"])
    explained = tilewright("explain", packed, "--tokens", "24", "--json")
    assert explained.code == 0, explained.err
    assert any("at 24 tokens" in row["reason"] for row in explained.body["rows"])


def test_bench_measures_against_torch(tilewright, packed):
    result = tilewright("bench", packed, "--sentences", "1", "--peers", "torch", "--quick", "--json")
    assert result.code == 0, result.err
    assert {row["engine"] for row in result.body["rows"]} == {"tilewright", "torch"}
    assert "BertModel: of " in result.err or "SentenceTransformer: of " in result.err  # one line about what was loaded


def test_bench_forecasts(tilewright, packed):
    result = tilewright("bench", packed, "--sentences", "1,8", "--dry-run")
    assert result.code == 0
    assert "1 to 2 minutes" in result.out


@pytest.fixture
def recipe(tiny_model, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(
        f"version: 1\nname: tiny\nmodel: {tiny_model}\nprune: {{pattern: '2:4'}}\nrecover: {{steps: 2, batch: 4, max_tokens: 16}}\n"
        "data: {pairs: 20}\nbench: {sentences: [1], peers: [torch], rounds: 3}\nrequire: {linear_ratio: 99, encode_ratio: 99, weights_size: 0.9}\n"
    )
    return path


def test_run_prints_the_schema_of_recipes(tilewright):
    result = tilewright("run", "--schema")
    assert (result.code, result.err) == (0, "")
    assert result.body["properties"]["prune"]["$ref"] == "#/$defs/Prune"


def test_prune_looks_at_data_and_updates_what_it_keeps(tilewright, tiny_model, tmp_path):
    words = ("--score", "second-order", "--update", "obs", "--passages", "8", "--ignore", "pooler.dense", "--json")
    result = tilewright("prune", tiny_model, tmp_path / "out", "--pattern", "2:4", *words)
    assert result.code == 0, result.err
    assert result.body["summary"]["update"] == "obs"
    assert all(row["error updated"] < row["error masked"] for row in result.body["rows"] if row["density"] < 1)
    assert tilewright("verify", tmp_path / "out", "--exact").code == 0
    refused = tilewright("prune", tiny_model, tmp_path / "out", "--pattern", "2:4", "--budget", "constrained")
    assert refused.code == 2
    assert "only a recipe can give; set prune.limit there" in refused.err


@pytest.mark.parametrize("sparse", [2.0, 0.5], ids=["sparse wins", "dense wins"])
def test_run_does_the_whole_job_and_returns_one_for_a_missed_requirement(
    tilewright, recipe, tmp_path, monkeypatch, sparse
):
    from tilewright.records import read_records
    from tilewright.runtime.measured import choice
    from tilewright.runtime.measured.timing import Timing

    # timings on a busy machine must not affect what is tested, and a job must also succeed if dense wins everywhere
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(choice, "timings", lambda dense, packed, inputs: [Timing(sparse, 1.0, True) for _ in inputs])
    monkeypatch.setattr(choice, "whole_ratios", lambda *_: None)
    out = tmp_path / "out"
    result = tilewright("run", recipe, "--output", out, "--json")
    assert result.code == 1, result.err
    body = result.body
    assert (body["kind"], body["ok"]) == ("run", False)
    assert [(check["limit"], check["ok"]) for check in body["checks"]] == [
        ("at least 99", False),
        ("at least 99", False),
        ("at most 0.9", True),
    ]
    assert (body["checks"][0]["value"] == "no layer runs sparse here") == (sparse < 1)
    kinds = {record.kind for record in read_records(body["records"])}
    assert {"quality", "latency", "size", "layer", "loss"} <= kinds
    page = (out / "report.html").read_text()
    assert all(f'<section id="{name}"' in page for name in ("checks", "quality", "latency", "size", "layers", "masks"))
    assert "measure speed" in result.err


@pytest.mark.parametrize("ok", [True, False])
def test_the_words_of_a_finished_run(ok):
    from tilewright.cli.run import as_text
    from tilewright.jobs import JobResult
    from tilewright.pages import Check

    checks = (Check("MRR, share of dense", 0.94171, "at least 0.93", True), Check("layers", "24 of 24", "all", ok))
    text = as_text(
        JobResult(Path("runs/x"), Path("runs/x/report.html"), Path("runs/x/records.jsonl"), checks, ok, "x: done")
    )
    assert text.splitlines() == [
        "x: done",
        "",
        "pass  MRR, share of dense: 0.9417 (at least 0.93)",
        f"{'pass' if ok else 'FAIL'}  layers: 24 of 24 (all)",
        "",
        "report: runs/x/report.html",
        "records: runs/x/records.jsonl",
    ]


def test_run_forecasts(tilewright, recipe, tmp_path):
    result = tilewright("run", recipe, "--output", tmp_path / "out", "--dry-run", "--json")
    assert result.code == 0
    assert result.body["summary"]["minutes"] > 0
    assert not (tmp_path / "out").exists()
