"""The published JSON schema: generated from the classes, committed, and as strict as a schema can be."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from tilewright.errors import RecipeError
from tilewright.jobs import load_recipe, recipe_schema

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs" / "reference" / "recipe.schema.json"
PAGE = (ROOT / "docs" / "reference" / "recipes.md").read_text()
GOOD = "version: 1\nname: x\nmodel: m\nprune: {pattern: '2:4'}\n"

WITH_RECOVER = GOOD + "recover: "
BROKEN = {
    "no name": GOOD.replace("name: x\n", ""),
    "unknown key": GOOD + "frobnicate: 1\n",
    "unknown inner key": GOOD.replace("}", ", patern: x}"),
    "version 2": GOOD.replace("version: 1", "version: 2"),
    "name with a slash": GOOD.replace("name: x", "name: ../x"),
    "unknown score": GOOD.replace("}", ", score: beauty}"),
    "unknown budget": GOOD.replace("}", ", budget: infinite}"),
    "no steps of a search": GOOD + "permute: {steps: 0}\n",
    "negative seconds": GOOD + "permute: {seconds: -1}\n",
    "empty batch of passages": GOOD.replace("}", ", score: wanda, calibration: {batch: 0}}"),
    "share above 1": GOOD.replace("}", ", budget: constrained, limit: {size: 2}}"),
    "repeated seed": GOOD + "seeds: [1, 1]\n",
    "no steps": WITH_RECOVER + "{method: fixed}\n",
    "unknown method": WITH_RECOVER + "{method: hope, steps: 5}\n",
    "key of another method": WITH_RECOVER + "{method: fixed, steps: 5, stages: ['1:4']}\n",
    "gradual without an end": WITH_RECOVER + "{method: gradual, steps: 5, every: 1}\n",
    "learning rate of 0": WITH_RECOVER + "{steps: 5, learning_rate: 0}\n",
    "decay of 1": WITH_RECOVER + "{method: sr-ste, steps: 5, decay: 1}\n",
    "no blocks": WITH_RECOVER + "{method: progressive, steps: 5, blocks: []}\n",
    "negative requirement": GOOD + "require: {quality: -1}\n",
}
CONTRADICTIONS = {
    "recover: {method: sr-ste, steps: 5}": (
        "score: wanda",
        r"prune.score is 'wanda', but recover.method: sr-ste prunes during",
    ),
    "recover: {method: gradual, steps: 5, every: 1, end: 5}": (
        "update: obs",
        r"prune.update is 'obs', but .* supports only none",
    ),
    "recover: {method: progressive, steps: 5, blocks: ['b.?'], gradual: {every: 1, end: 5}}": (
        "score: taylor",
        r"prune.score is 'taylor', but .*recover.gradual",
    ),
    "recover: {method: inherited, steps: 5}": (
        "budget: global",
        r"prune.budget is 'global', but .* supports only uniform",
    ),
    "recover: {method: gradual, steps: 5, every: 1, end: 6}": (
        "",
        r"recover.steps is 5, but the last cut is after step 6",
    ),
    "recover: {method: multi-stage, steps: 5, every: 5, stages: ['3:4']}": ("", r"the last cut is after step 10"),
    "recover: {method: multi-stage, steps: 50, every: 5, stages: ['1:4']}": ("", r"each stage must be sparser"),
    "recover: {method: inherited, steps: 5, levels: [3, 1]}": (
        "",
        r"recover.levels is \[3, 1\]; levels must decrease from at most 3 to 2",
    ),
    "recover: {method: inherited, steps: 5, pick: {n: 1}}": ("", r"recover.pick.n is 1; the members have n = 3, 2"),
    "recover: {method: inherited, steps: 5, pick: {}}": ("", r"recover.pick: give exactly one of n, quality and size"),
    "recover: {method: inherited, steps: 5, checks: 0}": ("", r"recover.checks is 0"),
    "seeds: [0]": ("calibration: {passages: 8}", r"prune.calibration is given, but nothing in this recipe uses it"),
    "seeds: [1]": ("limit: {size: 0.5}", r"prune: limit and budget: constrained require each other"),
    "seeds: [2]": ("budget: constrained, limit: {latency: 0.5}", r"prune.limit: latency requires patterns"),
}


def validator():
    return jsonschema.Draft202012Validator(recipe_schema())


def refused(tmp_path, text):
    file = tmp_path / "r.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(file)
    return str(caught.value)


def test_the_committed_schema_is_the_generated_one():
    assert FILE.read_text() == json.dumps(recipe_schema(), indent=2) + "\n", (
        "write it again: tilewright run --schema > docs/reference/recipe.schema.json"
    )


def test_it_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(recipe_schema())


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda file: file.name)
def test_every_example_is_valid_as_written_and_as_resolved(file):
    validator().validate(yaml.safe_load(file.read_text()))
    validator().validate(load_recipe(file).resolved())


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
def test_broken_recipes_are_refused_by_both(text, tmp_path):
    validator().validate(yaml.safe_load(GOOD))
    assert list(validator().iter_errors(yaml.safe_load(text)))
    assert refused(tmp_path, text)


@pytest.mark.parametrize("more", CONTRADICTIONS)
def test_contradictions_are_told_with_their_places(more, tmp_path):
    import re

    inside, words = CONTRADICTIONS[more]
    text = GOOD.replace("}", f", {inside}}}" if inside else "}") + more + "\n"
    assert re.search(words, refused(tmp_path, text))


def test_faults_inside_a_method_are_named_as_they_are_written(tmp_path):
    assert "recover.end is missing" in refused(tmp_path, WITH_RECOVER + "{method: gradual, steps: 5, every: 1}\n")
    near = refused(tmp_path, WITH_RECOVER + "{method: sr-ste, steps: 5, deacy: 0.1}\n")
    assert "unknown key recover.deacy; did you mean decay?" in near
    method = refused(tmp_path, WITH_RECOVER + "{method: hope, steps: 5}\n")
    assert (
        "recover.method: unknown method 'hope'; expected one of 'fixed', 'gradual', 'multi-stage', 'sr-ste', 'inherited', 'progressive'"
        in method
    )


def test_every_key_has_a_description_and_a_place_on_the_page():
    schema = recipe_schema()
    for name, part in {"Recipe": schema, **schema["$defs"]}.items():
        for key, body in part["properties"].items():
            assert body.get("description"), f"{name}.{key}"
            assert f"`{key}`" in PAGE or f".{key}`" in PAGE, f"{name}.{key} is not on the page"


def test_data_that_will_be_looked_at_is_spelled_out(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text(GOOD.replace("}", ", score: wanda}"))
    assert load_recipe(file).resolved()["prune"]["calibration"]["passages"] == 512
    file.write_text(GOOD)
    assert load_recipe(file).resolved()["prune"]["calibration"] is None
