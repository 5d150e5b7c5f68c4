"""Every task against a second computation, on real models of every kind, small and with random weights."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import tilewright
from tilewright import jobs
from tilewright.errors import ArgumentError, CheckFailed, RecipeError
from tilewright.jobs import Recipe, load_recipe, require_data
from tilewright.jobs.models import read_model
from tilewright.jobs.sources import source_of
from tilewright.jobs.tasks import build_task, decide
from tilewright.records import read_records

WORDS = ["sparse", "dense", "tile", "bank", "kept", "pruned", "fast", "slow", "small", "large"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Write one small model of each kind, with its data."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        BertModel,
        GPT2Config,
        GPT2LMHeadModel,
        PreTrainedTokenizerFast,
        ViTConfig,
        ViTForImageClassification,
    )

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("made")
    vocabulary = {word: n for n, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    text = {**sizes, "vocab_size": len(vocabulary), "max_position_embeddings": 32}
    labels = {"id2label": {0: "low", 1: "high"}, "label2id": {"low": 0, "high": 1}}
    vision = {"image_size": 8, "patch_size": 4, "num_channels": 1, "id2label": {0: "dark", 1: "light"}}
    gpt2 = GPT2Config(vocab_size=len(vocabulary), n_positions=32, n_embd=32, n_layer=2, n_head=2)
    for name, model in {
        "classes": BertForSequenceClassification(BertConfig(**text, **labels)),
        "number": BertForSequenceClassification(BertConfig(**text, num_labels=1)),
        "bare": BertModel(BertConfig(**text)),
        "language": GPT2LMHeadModel(gpt2),
        "vision": ViTForImageClassification(ViTConfig(**sizes, **vision, label2id={"dark": 0, "light": 1})),
    }.items():
        model.save_pretrained(root / name)
        if name != "vision":
            tokenizer.save_pretrained(root / name)
    rng = np.random.default_rng(0)
    texts = list(dict.fromkeys(" ".join(rng.choice(WORDS, rng.integers(3, 9))) for _ in range(90)))
    with (root / "rows.csv").open("w", newline="") as file:
        rows = [(text, "high" if "tile" in text else "low", len(text)) for text in texts]
        csv.writer(file).writerows([("text", "label", "length"), *rows])
    (root / "rows.jsonl").write_text("\n".join(json.dumps({"text": t, "label": int(k == "high")}) for t, k, _ in rows))
    (root / "text.txt").write_text(" ".join(rng.choice(WORDS, 3000)))
    for n in range(80):
        kind = ("dark", "light")[n % 2]
        (root / "images" / kind).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 128, (8, 8)) + 127 * (n % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(root / "images" / kind / f"{n}.png")
    return root


def recipe(made, model, data=None, **more):
    body = {"version": 1, "name": "t", "model": str(made / model), "prune": {"pattern": "2:4"}, **more}
    return Recipe.model_validate(body if data is None else {**body, "data": data})


def task_of(job_recipe):
    dense = read_model(job_recipe.model)
    task = build_task(job_recipe.data, source_of(job_recipe.model), dense)
    task.refer(dense)
    return task, dense


SMALL = {"test": 20, "validation": 12}


@pytest.mark.parametrize(
    ("model", "task"),
    [
        ("classes", "classification"),
        ("number", "regression"),
        ("language", "next-token"),
        ("vision", "images"),
        ("bare", "match"),
    ],
)
def test_the_task_is_told_from_the_configuration(made, model, task):
    assert decide(source_of(str(made / model)), None) == task


@pytest.mark.parametrize("file", ["rows.csv", "rows.jsonl"])
def test_accuracy_is_the_share_of_right_classes(made, file):
    task, dense = task_of(recipe(made, "classes", {"file": str(made / file), **SMALL}))
    scores = task.evaluate(dense)
    right = []
    for row in task._parts.test:
        ids = torch.tensor([[2 + WORDS.index(word) for word in row.texts[0].split()]])
        right.append(int(dense(input_ids=ids).logits.argmax()) == ("tile" in row.texts[0]))
    assert scores["accuracy"] == pytest.approx(np.mean(right))
    assert (len(scores), scores["agreement"]) == (20, 1.0)
    with torch.no_grad():
        dense.classifier.weight.neg_()
        dense.classifier.bias.neg_()
    assert task.evaluate(dense)["accuracy"] == pytest.approx(1 - np.mean(right))
    assert task.evaluate(dense)["agreement"] == 0.0


def test_a_regression_is_judged_by_its_mean_absolute_error(made):
    task, dense = task_of(recipe(made, "number", {"file": str(made / "rows.csv"), "label": "length", **SMALL}))
    errors = []
    for row in task._parts.test:
        ids = torch.tensor([[2 + WORDS.index(word) for word in row.texts[0].split()]])
        errors.append(abs(dense(input_ids=ids).logits.item() - len(row.texts[0])))
    assert task.evaluate(dense)["mean absolute error"] == pytest.approx(np.mean(errors), rel=1e-4)
    with torch.no_grad():
        dense.classifier.bias += 2
    assert task.evaluate(dense)["distance"] == pytest.approx(2, rel=1e-4)


def test_perplexity_is_that_of_the_models_own_loss(made):
    task, dense = task_of(recipe(made, "language", {"file": str(made / "text.txt"), "tokens": 16, **SMALL}))
    windows = torch.tensor([list(window) for window in task._parts.test])
    loss = dense(input_ids=windows, labels=windows).loss.item()
    scores = task.evaluate(dense)
    assert scores["perplexity"] == pytest.approx(math.exp(loss), rel=1e-4)
    predicted = dense(input_ids=windows).logits[:, :-1].argmax(-1)
    assert scores["accuracy"] == pytest.approx(float((predicted == windows[:, 1:]).float().mean()))


def test_images_reach_the_model_as_numbers_from_0_to_1(made):
    task, dense = task_of(recipe(made, "vision", {"folder": str(made / "images"), **SMALL}))
    file, number = task._parts.test[0]
    pixels = task.example(1)["pixel_values"]
    np.testing.assert_allclose(pixels[0, 0].numpy(), np.asarray(Image.open(file)) / 255, atol=1e-6)
    assert number == int(file.parent.name == "light")
    predicted = [
        int(dense(torch.from_numpy(np.asarray(Image.open(file), np.float32) / 255)[None, None]).logits.argmax())
        == label
        for file, label in task._parts.test
    ]
    assert task.evaluate(dense)["accuracy"] == pytest.approx(np.mean(predicted))


@pytest.mark.parametrize("model", ["bare", "vision", "language", "classes"])
def test_any_model_is_held_against_its_dense_self(made, model):
    task, dense = task_of(recipe(made, model, SMALL, task="match"))
    same = task.evaluate(dense)
    assert same["cosine"] == pytest.approx(1)
    assert same["relative error"] == pytest.approx(0, abs=1e-6)
    other = read_model(str(made / model))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    changed = task.evaluate(other)
    assert changed["cosine"] < 1 - 1e-6
    assert changed["relative error"] > 1e-3


@pytest.mark.parametrize(("model", "data"), [("classes", {"file": "long.csv"}), ("language", {"file": "text.txt"})])
def test_texts_beyond_what_the_model_reads_are_cut(made, tmp_path, model, data):
    rows = [(" ".join([word] * 80), "high") for word in WORDS] + [
        (" ".join([a, b] * 40), "low") for a in WORDS for b in WORDS
    ]
    with (made / "long.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    task, dense = task_of(recipe(made, model, {"file": str(made / data["file"]), **SMALL}))
    assert task.example(2)["input_ids"].shape == (2, 32)
    assert task.batches(4, tokens=128, seed=0)[0]["input_ids"].shape == (4, 32)
    assert len(task.evaluate(dense)) == 20


def test_padding_does_not_count(made):
    task, dense = task_of(recipe(made, "bare", SMALL, task="match"))
    alone = [task.evaluate(dense, "validation").items["cosine"]]
    items = task._parts.validation
    batch = task._collate(items)
    assert not batch["attention_mask"].bool().all()
    answer = dense(**batch).last_hidden_state
    from tilewright.jobs.tasks.matching import _rows

    rows = _rows(answer, batch)
    assert torch.equal(
        rows[batch["attention_mask"].sum(1).argmin()].reshape(answer.shape[1], -1)[-1], torch.zeros(32).double()
    )
    assert len(alone[0]) == 12


def plain():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 8))


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return a plain module as a recipe would name it."""
    (tmp_path / "my_net_for_tasks.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef build():\n    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 8))\n\n\nnumber = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "my_net_for_tasks:build"


@pytest.mark.parametrize("form", ["shape", "npz", "npy", "safetensors"])
def test_a_plain_module_takes_given_and_generated_inputs(module, tmp_path, form):
    x = np.random.default_rng(0).standard_normal((80, 12), dtype=np.float32)
    data = {"shape": [12]} if form == "shape" else {"file": str(tmp_path / f"x.{form}")}
    if form == "npz":
        np.savez(tmp_path / "x.npz", input=x)
    elif form == "npy":
        np.save(tmp_path / "x.npy", x)
    elif form == "safetensors":
        from safetensors.numpy import save_file

        save_file({"anything": x}, tmp_path / "x.safetensors")
    body = {"version": 1, "name": "t", "model": module, "prune": {"pattern": "2:4"}, "data": {**data, **SMALL}}
    task, dense = task_of(Recipe.model_validate(body))
    assert torch.equal(dense(torch.ones(1, 12)), plain()(torch.ones(1, 12)))
    assert task.example(3)["input"].shape == (3, 12)
    assert task.evaluate(dense)["cosine"] == pytest.approx(1)


def test_what_is_judged_by_is_never_learned_from(made):
    for job_recipe in (
        recipe(made, "classes", {"file": str(made / "rows.csv"), **SMALL}),
        recipe(made, "language", {"file": str(made / "text.txt"), "tokens": 16, **SMALL}),
        recipe(made, "vision", {"folder": str(made / "images"), **SMALL}),
    ):
        task, _ = task_of(job_recipe)
        train, validation, test = (
            set(map(str, part)) for part in (task._parts.train, task._parts.validation, task._parts.test)
        )
        assert not train & test
        assert not train & validation
        assert not validation & test
        assert set(map(str, task.batches(4, tokens=8, seed=0).items)) <= train | {
            str(w[:8]) for w in task._parts.train if job_recipe.task == "next-token"
        }


def test_a_model_that_says_nothing_is_refused(made):
    task, dense = task_of(recipe(made, "classes", {"file": str(made / "rows.csv"), **SMALL}))
    with torch.no_grad():
        dense.classifier.weight.fill_(float("nan"))
    with pytest.raises(CheckFailed, match="logits contain NaN or infinity"):
        task.evaluate(dense)


WRONG = [
    (
        "classes",
        {"task": "images", "data": {"folder": "images"}},
        r"task 'images' does not fit .*, a BertForSequenceClassification; expected 'classification' or 'match'",
    ),
    ("vision", {"data": {"folder": "nowhere"}}, r"data.folder '.*nowhere' is not an existing folder"),
    ("classes", {"data": {"file": "nowhere.csv"}}, r"data.file '.*nowhere.csv' does not exist"),
    (
        "classes",
        {"data": {"file": "rows.csv", "label": "lable"}},
        r"rows.csv, line 1: unknown column 'lable'; did you mean 'label'\?",
    ),
    (
        "classes",
        {"data": {"file": "rows.csv", "label": "length"}},
        r"rows.csv, row 1: unknown class '\d+'; expected one of 'low', 'high'",
    ),
    (
        "number",
        {"data": {"file": "rows.csv"}},
        r"rows.csv, row 1 has the label '\w+'; labels of a regression must be numbers",
    ),
    ("classes", {"data": {"file": "rows.csv", "test": 500}}, r"has only \d+ distinct items, but data.test needs 500"),
]


@pytest.mark.parametrize(("model", "more", "words"), WRONG)
def test_data_that_does_not_fit_is_refused_before_torch_is_needed(made, model, more, words):
    data = {key: str(made / value) if key in ("file", "folder") else value for key, value in more["data"].items()}
    job_recipe = recipe(made, model, data, **{key: value for key, value in more.items() if key != "data"})
    with pytest.raises(ArgumentError, match=words):
        require_data(job_recipe)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("task: image\n", r"task: unknown task 'image'; did you mean 'images'\?"),
        ("task: images\n", r"data.folder is missing"),
        ("task: images\ndata: {folder: x, file: y}\n", r"unknown key data.file"),
        ("data: {task: images}\n", r"unknown key data.task; task is a top-level key"),
        ("require: {mrr: 0.9}\n", r"unknown key require.mrr; it is now called require.quality"),
        ("data: {file: x.csv}\n", r"task is not given and cannot be inferred from the model: m does not exist"),
    ],
)
def test_a_recipe_says_what_is_wrong_with_its_task(tmp_path, text, words):
    (tmp_path / "r.yaml").write_text("version: 1\nname: x\nmodel: m\nprune: {pattern: '2:4'}\n" + text)
    with pytest.raises(RecipeError, match=words):
        load_recipe(tmp_path / "r.yaml")


JOBS = {
    "classes": {"data": {"file": "rows.csv"}},
    "number": {"data": {"file": "rows.jsonl", "label": "label"}},
    "language": {"data": {"file": "text.txt", "tokens": 16}},
    "vision": {"data": {"folder": "images"}},
    "bare": {"data": {"items": 60}},
}


@pytest.mark.parametrize("model", JOBS)
def test_a_whole_job_runs_on_every_kind_of_model(made, tmp_path, model):
    data = {k: str(made / v) if k in ("file", "folder") else v for k, v in JOBS[model]["data"].items()}
    job_recipe = recipe(
        made,
        model,
        {**data, **SMALL},
        prune={
            "pattern": "2:4",
            "ignore": ["classifier"] if model in ("classes", "number", "vision") else [],
        },
        recover={"steps": 2, "batch": 4, "max_tokens": 16, "curve": 1},
        bench={"sentences": [3], "peers": ["torch"], "rounds": 3},
        require={"quality": 0.01},
    )
    result = jobs.run(job_recipe, tmp_path / "out")
    records = read_records(result.records_path)
    quality = [r for r in records if r.kind == "quality"]
    measures = [measure.name for measure in task_of(job_recipe)[0].measures]
    assert [r.name for r in quality if r.inputs["model"] == "packed"] == measures
    assert all(r.extra["meaning"].endswith(".") for r in quality)
    for record in quality:
        low, high = record.extra["interval"]
        assert low - 1e-9 <= record.median <= high + 1e-9
    assert {r.name for r in records if r.kind == "latency"} == {"linear", "encode"}
    assert [r.name for r in records if r.kind == "curve"] == measures[:1]
    assert tilewright.verify(result.output / "model", exact=True).ok
    inside = {path.name for path in (result.output / "model").iterdir()}
    assert ("tokenizer.json" in inside) == (model != "vision")
    assert jobs.forecast(job_recipe).summary["minutes"] > 0


def test_a_whole_job_runs_on_a_plain_module_and_its_family_is_picked_from(module, tmp_path):
    body = {
        "version": 1,
        "name": "t",
        "model": module,
        "prune": {"pattern": "1:4"},
        "data": {"shape": [12], **SMALL, "items": 80},
        "recover": {"method": "inherited", "steps": 2, "batch": 8, "pick": {"quality": 0.01}},
        "bench": {"sentences": [3], "peers": ["torch"], "rounds": 3},
    }
    result = jobs.run(Recipe.model_validate(body), tmp_path / "out")
    records = read_records(result.records_path)
    members = [r for r in records if r.kind == "member"]
    assert [r.name for r in members] == ["cosine"] * 4
    assert members[0].median == pytest.approx(1)
    report = jobs.bench(
        str(result.output / "model"),
        model=module,
        shape=[12],
        sentences=[2, 5],
        peers=["torch", "onnxruntime"],
        quick=True,
    )
    assert {row["engine"] for row in report.rows} == {"tilewright", "torch", "onnxruntime"}


@pytest.mark.parametrize("model", ["classes", "language", "vision"])
@pytest.mark.parametrize("score", ["magnitude", "wanda"])
def test_prune_alone_takes_any_model(made, tmp_path, model, score):
    report = jobs.prune(str(made / model), tmp_path / "out", "2:4", score=score, passages=16)
    assert report.ok
    assert tilewright.verify(tmp_path / "out", exact=True).ok
    inside = {path.name for path in (tmp_path / "out").iterdir()}
    assert ("tokenizer.json" in inside) == (model != "vision")
    if score == "magnitude":
        timed = jobs.bench(str(tmp_path / "out"), sentences=[2], peers=["torch", "onnxruntime"], quick=True)
        assert {row["what"] for row in timed.rows} == {"linear", "encode"}


def test_prune_alone_needs_the_shape_of_a_plain_module_only_where_it_looks_at_inputs(module, tmp_path):
    assert jobs.prune(module, tmp_path / "a", "2:4").ok
    assert jobs.prune(module, tmp_path / "b", "2:4", score="taylor", passages=16, shape=[12]).ok
    with pytest.raises(
        ArgumentError, match=r"the inputs of Sequential cannot be determined; give the shape of one input"
    ):
        jobs.prune(module, tmp_path / "c", "2:4", score="wanda")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("my_net_for_tasks:bild", "has no attribute bild"),
        ("my_net_for_tasks:number", "returned a int, expected a torch.nn.Module"),
        ("no_such_net_at_all:build", "neither installed nor in the current folder"),
    ],
)
def test_a_callable_that_builds_nothing_is_said(module, name, words):
    with pytest.raises(ArgumentError, match=words):
        read_model(name)
