"""Every recovery method, end to end on a tiny encoder: the pattern holds, and a second run gives the same result."""

import copy
from dataclasses import replace

import pytest
import torch
import yaml
from pydantic import ValidationError

import tilewright
from tilewright import jobs
from tilewright.errors import CheckFailed
from tilewright.jobs import Recipe
from tilewright.jobs.curve import ValidationCurve
from tilewright.jobs.job import Job
from tilewright.jobs.models import inner_model, read_model
from tilewright.jobs.pruning import prune_at_once_
from tilewright.jobs.sources import source_of
from tilewright.jobs.tasks import build_task
from tilewright.pruning import patterns_of
from tilewright.records import read_records
from tilewright.training import Family

STEPS = {"steps": 6, "batch": 4, "max_tokens": 16}
CALIBRATION = {"passages": 8, "batch": 4, "max_tokens": 16}
RECIPES = {
    "fixed": ({"pattern": "2:4", "score": "wanda", "calibration": CALIBRATION}, STEPS),
    "gradual": (
        {"pattern": "1:4", "score": "taylor"},
        {**STEPS, "method": "gradual", "end": 4, "every": 2, "scoring_steps": 2},
    ),
    "multi-stage": (
        {"pattern": "tw8@60%", "score": "taylor", "budget": "global"},
        {**STEPS, "method": "multi-stage", "stages": ["tw8@30%"], "every": 2, "scoring_steps": 2, "apriori": {}},
    ),
    "sr-ste": ({"pattern": "2:8"}, {**STEPS, "method": "sr-ste"}),
    "progressive": (
        {"pattern": "2:8"},
        {
            **STEPS,
            "method": "progressive",
            "blocks": ["encoder.layer.?"],
            "attentions": ["encoder.layer.?.attention.self"],
            "gradual": {"end": 4, "every": 2},
        },
    ),
}


class Heard:
    """A progress display that records its calls."""

    def __init__(self):
        self.said, self.steps = [], []

    def stage(self, name):
        pass

    def step(self, done, total, note=""):
        self.steps.append(done)

    def say(self, text):
        self.said.append(text)


def recipe(model, prune, recover=None, **more):
    return Recipe.model_validate(
        {
            "version": 1,
            "name": "tiny",
            "model": str(model),
            "prune": {"targets": ["encoder.*"], **prune},
            "recover": recover,
            "data": {"pairs": 12, "validation": 12},
            "bench": {"sentences": [1], "rounds": 3, "peers": ["torch"]},
            **more,
        }
    )


def task_of(job_recipe, dense):
    """Return the task of a recipe with few enough passages to tokenize quickly."""
    task = build_task(job_recipe.data, source_of(job_recipe.model), dense)
    task.corpus = replace(task.corpus, passages=task.corpus.passages[:200])
    return task


def work(job_recipe, folder, evaluated=None):
    """Run the stages of a job that change a model."""
    heard, dense = Heard(), read_model(job_recipe.model)
    task = task_of(job_recipe, dense)
    if evaluated is not None:
        genuine = task.evaluate
        task.evaluate = lambda model, split="test": evaluated.append(split) or genuine(model, split)
    job = Job(job_recipe, task, folder, heard, resume=True)
    job.rate_dense(dense)
    if job_recipe.permute is not None:
        job.permute_(dense)
    student = inner_model(job.student(dense, seed=0))
    job.publish()  # records stay with the checkpoints until the job has written its model
    return student, heard


def validated(job_recipe, model):
    """Return the measure of a model on the validation pairs."""
    task = task_of(job_recipe, read_model(job_recipe.model))
    task.refer(read_model(job_recipe.model))
    return task.evaluate(model, "validation")["mrr"]


def same(first, second):
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def holds(model):
    """Return whether every pattern holds; a global ranking may empty some layers of random weights, but not all."""
    report = tilewright.verify(model)
    assert not all(row["finding"] for row in report.rows)
    return report.ok


def rated(folder):
    return [
        r.inputs["model"] for r in read_records(folder / "records.jsonl") if r.name == "mrr" and r.kind == "quality"
    ]


def curves(folder):
    return [r for r in read_records(folder / "records.jsonl") if r.kind == "curve"]


@pytest.mark.parametrize("method", RECIPES)
def test_watching_a_recovery_changes_nothing_and_is_not_done_twice(method, tiny_model, tmp_path):
    prune, recover = RECIPES[method]
    rated = []
    watched, blind = tmp_path / "watched", tmp_path / "blind"
    for folder in (watched, blind):
        folder.mkdir()
    recover = {**recover, "learning_rate": 3e-2, "curve": 3}
    job_recipe = recipe(tiny_model, prune, recover)
    student, _ = work(job_recipe, watched, rated)
    (curve,) = curves(watched)
    assert len(set(curve.extra["values"])) > 1
    assert curve.extra["steps"] == [0, 2, 4, 6]
    assert curve.extra["values"][-1] == curve.median == validated(job_recipe, read_with(student, tiny_model))
    assert curve.extra["dense"] == validated(job_recipe, read_model(str(tiny_model)))
    assert curve.inputs["split"] == "validation"
    assert rated.count("validation") == 5  # before, at three steps, and the dense model
    other, _ = work(recipe(tiny_model, prune, {**recover, "curve": 0}), blind)
    assert same(student, other)
    assert curves(blind) == []
    rated.clear()
    work(job_recipe, watched, rated)
    assert curves(watched)[0].extra == curve.extra
    assert rated.count("validation") == 1  # the dense model alone


def read_with(inner, tiny_model):
    """Return the tiny encoder with the weights of another transformer, without masks."""
    model = read_model(str(tiny_model))
    state = inner_model(model).state_dict()
    own_names = {name for name, _ in inner_model(model).named_parameters()}
    weights = {name: value for name, value in inner.state_dict().items() if name in own_names}
    assert weights.keys() == own_names
    inner_model(model).load_state_dict({**state, **weights})
    return model


def test_a_curve_leaves_modes_as_they_were_and_its_last_point_is_the_last_step(tmp_path):
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Sequential(torch.nn.Dropout()))
    model[1].eval()
    for points in (1, 3, 7, 20):
        curve = ValidationCurve(model, lambda: float(model.eval().training), tmp_path / f"{points}", "", 7, points)
        values = [curve.at(step) for step in range(8)]
        assert values[-1] == 0.0
        assert sum(value is not None for value in values[1:]) == min(points, 7)
        assert [module.training for module in model.modules()] == [True, True, False, False]
    (tmp_path / "7").write_text("{cut short")
    assert ValidationCurve(model, lambda: 1.0, tmp_path / "7", "", 7, 7).points == ()


def test_points_of_another_recipe_are_not_taken_over(tiny_model, tmp_path):
    prune, recover = RECIPES["fixed"]
    for rate in (1e-2, 3e-2):
        (tmp_path / "checkpoints" / "seed0.safetensors").unlink(missing_ok=True)
        job_recipe = recipe(tiny_model, prune, {**recover, "learning_rate": rate})
        student, _ = work(job_recipe, tmp_path)
        last = validated(job_recipe, read_with(student, tiny_model))
        assert curves(tmp_path)[0].extra["values"][-1] == last


@pytest.mark.parametrize("method", RECIPES)
def test_every_method_ends_in_its_pattern_and_resumes(method, tiny_model, tmp_path):
    prune, recover = RECIPES[method]
    job_recipe = recipe(tiny_model, prune, recover)
    student, heard = work(job_recipe, tmp_path)
    assert holds(student)
    assert {str(pattern) for pattern in patterns_of(student).values()} == {prune["pattern"]}
    assert heard.steps == [1, 2, 3, 4, 5, 6]
    assert rated(tmp_path) == ["dense", *(["pruned"] if method == "fixed" else []), "recovered"]
    again, heard = work(job_recipe, tmp_path)
    assert same(student, again)
    assert not heard.steps  # no training step was repeated
    stored = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    assert stored["recover"]["method"] == method
    assert Recipe.model_validate(stored).digest() == job_recipe.digest()


def test_a_family_stays_in_the_folder_and_a_member_is_picked(tiny_model, tmp_path):
    inherited = {**STEPS, "method": "inherited", "cost": 1.5, "pick": {"size": 0.9}}
    job_recipe = recipe(tiny_model, {"pattern": "1:4"}, inherited)
    student, heard = work(job_recipe, tmp_path)
    assert len(heard.steps) == 9
    family = Family.load(tmp_path / "family" / "seed0")
    assert [member.name for member in family.members] == ["dense", "3:4", "2:4", "1:4"]
    members = [r for r in read_records(tmp_path / "records.jsonl") if r.kind == "member"]
    (curve,) = curves(tmp_path)
    dense = curve.extra["dense"]
    assert curve.extra["values"] == pytest.approx([member.metric * dense for member in family.members[1:]])
    assert family.members[0].metric == 1  # members are evaluated by their share of the dense model's quality
    picked = [r.inputs["member"] for r in members if r.extra["picked"]]
    best = family.pick(cost=0.9 * family.members[0].bytes)
    assert picked == [best.name] != ["dense"]
    assert {str(pattern) for pattern in patterns_of(student).values()} == {best.name}
    # Another pick from the same family needs no training.
    for pick, expected in (({"n": 3}, "3:4"), (None, "1:4")):
        again = recipe(tiny_model, {"pattern": "1:4"}, {**inherited, "pick": pick})
        student, heard = work(again, tmp_path)
        assert not heard.steps
        assert {str(pattern) for pattern in patterns_of(student).values()} == {expected}
    with pytest.raises(
        CheckFailed, match=r"recover.pick matches no member: no member has a metric of .* change recover.pick"
    ):
        work(recipe(tiny_model, {"pattern": "1:4"}, {**inherited, "pick": {"quality": 50}}), tmp_path)


def test_channels_are_permuted_once(tiny_model, tmp_path):
    job_recipe = recipe(tiny_model, {"pattern": "2:4"}, permute={"seconds": 1})
    student, heard = work(job_recipe, tmp_path)
    gain = [r for r in read_records(tmp_path / "records.jsonl") if r.kind == "permutation"]
    assert gain[0].median > 1
    assert any("groups folded" in line for line in heard.said)
    again, heard = work(job_recipe, tmp_path)
    assert "reusing the order from an earlier run" in heard.said
    assert same(student, again)
    plain, _ = work(recipe(tiny_model, {"pattern": "2:4"}), tmp_path)
    assert not same(student, plain)


def test_a_search_bounded_by_steps_alone_finds_the_same_order_again(tiny_model, tmp_path):
    job_recipe = recipe(tiny_model, {"pattern": "2:4"}, permute={"seconds": None, "steps": 500, "seed": 3})
    folders = [tmp_path / name for name in "ab"]
    students = []
    for folder in folders:
        folder.mkdir()
        students.append(work(job_recipe, folder)[0])
    assert same(*students)
    assert "permute channels" in [row["stage"] for row in jobs.forecast(job_recipe).rows]


def test_a_search_without_any_bound_is_refused(tiny_model):
    with pytest.raises(ValidationError, match="seconds is null, so steps must limit the search"):
        recipe(tiny_model, {"pattern": "2:4"}, permute={"seconds": None})


def test_whole_jobs_choose_by_other_pairs_than_they_are_judged_by(tiny_model, tmp_path):
    inherited = {**STEPS, "method": "inherited", "cost": 1, "levels": [2], "pick": {"quality": 0.01}}
    job_recipe = recipe(tiny_model, {"pattern": "2:4"}, inherited, permute={"seconds": 1})
    result = jobs.run(job_recipe, tmp_path)
    assert tilewright.verify(result.output / "model", exact=True).ok
    assert rated(tmp_path) == ["dense", "recovered", "packed"]
    judged = {r.inputs["pairs"] for r in read_records(result.records_path) if r.kind == "quality"}
    assert judged == {12}
    assert "distillation" in {r.name for r in read_records(result.records_path)}


@pytest.mark.parametrize(
    "prune",
    [
        {"pattern": "2:4", "score": "second-order", "update": "obs"},
        {"pattern": "tw8@50%", "score": "taylor", "budget": "global"},
        {"pattern": "2:4", "budget": "sensitivity"},
        {"pattern": "2:4", "budget": "constrained", "limit": {"size": 0.7}},
        {"pattern": "2:4", "budget": "constrained", "limit": {"latency": 1.0, "patterns": ["2:4", "1:4"]}},
    ],
    ids=lambda prune: "-".join(str(value) for value in prune.values() if isinstance(value, str)),
)
def test_models_are_pruned_at_once_by_what_the_recipe_says(prune, tiny_model):
    job_recipe = recipe(tiny_model, {**prune, "calibration": CALIBRATION})
    dense = read_model(str(tiny_model))
    student = copy.deepcopy(dense)
    report = prune_at_once_(student, dense, job_recipe.prune, task_of(job_recipe, dense))
    assert report.summary["score"] == job_recipe.prune.score
    assert report.summary["budget"] == job_recipe.prune.budget
    assert report.summary.get("update", "none") == job_recipe.prune.update
    limits = prune.get("limit", {})
    if "latency" in limits:  # the measurements decide, and dense layers may be within the limit
        assert {str(pattern) for pattern in patterns_of(inner_model(student)).values()} <= set(limits["patterns"])
        return
    assert holds(inner_model(student))
    limit = limits.get("size")
    if limit:
        stored = sum(row["density"] for row in report.rows) / len(report.rows)
        assert stored <= limit


@pytest.mark.parametrize("method", RECIPES)
def test_forecasts_know_every_method(method, tiny_model):
    report = jobs.forecast(recipe(tiny_model, *RECIPES[method], permute={"seconds": 60}))
    stages = [str(row["stage"]) for row in report.rows]
    assert "permute channels" in stages
    assert ("look at 8 items" in stages) == (method == "fixed")
    assert any(stage.startswith("recover: 6 steps") for stage in stages)
