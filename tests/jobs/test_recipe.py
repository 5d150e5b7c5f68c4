"""Recipes are validated before anything runs, and every fault is a sentence that names the key."""

import itertools
from pathlib import Path

import pytest

from tilewright.errors import RecipeError
from tilewright.jobs import Recipe, load_recipe

EXAMPLES = Path(__file__).parents[2] / "examples"
GOOD = "version: 1\nname: x\nmodel: m\nprune: {pattern: '2:4'}\n"


def recipe(tmp_path, text):
    file = tmp_path / "r.yaml"
    file.write_text(text)
    return load_recipe(file)


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda file: file.name)
def test_the_examples_are_valid(file):
    assert load_recipe(file).name == file.stem


def test_there_are_examples():
    assert {"minilm.yaml", "minilm-long.yaml"} <= {file.name for file in EXAMPLES.glob("*.yaml")}


def test_the_resolved_form_is_complete_and_reads_back(tmp_path):
    job = recipe(tmp_path, GOOD)
    assert Recipe.model_validate(job.resolved()) == job
    assert job.resolved()["bench"]["peers"] == ["torch", "onnxruntime", "openvino"]
    assert job.digest() == recipe(tmp_path, GOOD).digest()
    assert job.digest() != recipe(tmp_path, GOOD.replace("2:4", "1:4")).digest()


def test_patterns_are_stored_in_their_own_text(tmp_path):
    assert recipe(tmp_path, GOOD.replace("2:4", "bank64@16x")).prune.pattern == "bank64@16x"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("name: x", "nmae: x"), r"name is missing; unknown key nmae; did you mean name\?"),
        (("pattern: '2:4'", "pattern: '5:4'"), r"prune.pattern is '5:4': 5:4 keeps 5 of every 4"),
        (
            ("pattern: '2:4'", "pattern: '2:4', patern: x"),
            r"unknown key prune.patern; did you mean pattern\?",
        ),
        (("version: 1", "version: 2"), r"version is 2: input should be 1"),
        (("name: x", "name: ../x"), r"name is '../x'"),
        (
            ("model: m", "model: m\nrecover: {steps: 0}"),
            r"recover.steps is 0: input should be greater than or equal to 1",
        ),
        (("model: m", "model: m\nrequire: {quality: -1}"), r"require.quality is -1"),
        (
            ("model: m", "model: m\nbench: {peers: [tensorflow]}"),
            r"bench.peers.0: unknown peer 'tensorflow'; expected one of 'torch'",
        ),
        (("model: m", "model: m\nbench: {peers: []}"), r"bench.peers is \[\]"),
        (("model: m", "model: m\nbench: {sentences: [0]}"), r"bench.sentences.0 is 0"),
        (
            ("model: m", "model: m\nrecover: {steps: 5, learning_rate: -1}"),
            r"recover.learning_rate is -1: input should be greater than 0",
        ),
        (("model: m", "model: m\nseeds: [1, 1]"), r"seeds is \[1, 1\]; each seed may appear only once"),
        (("model: m", "model: m\nrequire: {quality: .inf}"), r"require.quality is inf"),
        (("model: m", "model: m\nfrobnicate: 1"), r"unknown key frobnicate; expected one of version, name"),
    ],
)
def test_faults_are_named_with_their_place(tmp_path, change, words):
    with pytest.raises(RecipeError, match=words):
        recipe(tmp_path, GOOD.replace(*change))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "not valid YAML: "),
        ("- 1\n", "expected a mapping of keys to values, got list"),
        ("", "got NoneType"),
        ("!!python/object:os.system x", r"line 1: tags \(such as !!int\) are not supported"),
    ],
)
def test_other_files_are_refused(tmp_path, text, words):
    with pytest.raises(RecipeError, match=words):
        recipe(tmp_path, text)


def test_a_missing_file_is_said():
    with pytest.raises(RecipeError, match=r"nowhere.yaml cannot be read: No such file.*examples/minilm.yaml"):
        load_recipe("nowhere.yaml")


def test_targets_can_have_patterns_of_their_own(tmp_path):
    text = GOOD.replace("{pattern: '2:4'}", "{pattern: '2:4', targets: {a.*: '2:4x8', b: bank64@4x}}")
    prune = recipe(tmp_path, text).prune
    assert prune.arguments()["targets"] == {"a.*": "2:4x8", "b": "bank64@4x"}
    assert prune.patterns == "2:4x8 and bank64@4x"
    with pytest.raises(RecipeError, match=r"prune.targets.dict.*a is '5:4': 5:4 keeps 5"):
        recipe(tmp_path, GOOD.replace("{pattern: '2:4'}", "{pattern: '2:4', targets: {a: '5:4'}}"))


def test_options_follow_the_recipe(tmp_path):
    text = GOOD + "recover: {steps: 7, learning_rate: 1.0e-4, precision: bfloat16, hidden: 2.0}\n"
    options = recipe(tmp_path, text).options(seed=3)
    assert (options.steps, options.learning_rate, options.precision, options.hidden, options.seed) == (
        7,
        1e-4,
        "bfloat16",
        2.0,
        3,
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("model: m", "model: m\nmodel: other"), r"line 4: duplicate key 'model'; remove one of them"),
        (("{pattern: '2:4'}", "{pattern: '2:4', pattern: '1:4'}"), "duplicate key 'pattern'"),
        (("model: m", "model: &m m\nname: *m"), r"line \d: references \(& and \*\) are not supported"),
        (("model: m", "1: m"), "key 1 is not a string; put it in quotes"),
        (("model: m", "? [a]\n: m"), r"key \['a'\] is not a string"),
        (("model: m", "model: m\n<<: {name: x}"), "unknown key <<;"),
        (("model: m", f"model: m\ndata: {'[' * 50}"), "nested more than 16 levels deep"),
        (("model: m", f"model: m\ndata: {'[' * 20_000}"), "nested more than 16 levels deep"),
        (("model: m", f"model: m\ndata:\n{'- ' * 20_000}"), "nested more than 16 levels deep"),
        (("model: m", f"model: m\n{'x' * 900}: 1"), r"^.*: unknown key x+\.\.\.;"),
        (("model: m", f"model: m\ndtype: {'x' * 500_000}"), r"unknown dtype 'x+\.\.\.; expected"),
        (("model: m", f"model: m\n# {'x' * (1 << 20)}"), r"the file is larger than 1,048,576 bytes"),
        (
            ("model: m", 'model: m\n"\\u202e\\ud800": 1'),
            r"line 4: the text '\\u202e\\ud800' contains an unpaired surrogate",
        ),
        (("model: m", 'model: m\n"\\u202e": 1'), r"unknown key '\\u202e';"),
        (("model: m", 'model: m\ndtype: "\\e[2J"'), r"unknown dtype '\\x1b\[2J'"),
    ],
)
def test_what_a_short_file_could_make_large_or_ambiguous_is_refused(tmp_path, change, words):
    with pytest.raises(RecipeError, match=words) as caught:
        recipe(tmp_path, GOOD.replace(*change))
    assert len(str(caught.value)) < 2000
    assert str(caught.value).isprintable()


def test_a_billion_laughs_are_not_told(tmp_path):
    laughs = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in itertools.pairwise("abcdefghi")
    )
    with pytest.raises(RecipeError, match=r"line 1: references \(& and \*\) are not supported"):
        recipe(tmp_path, laughs)


def test_a_pattern_needs_no_quotes(tmp_path):
    """In YAML 1.1 an unquoted 2:4 is the number 124, of base 60."""
    assert recipe(tmp_path, GOOD.replace("'2:4'", "2:4")).prune.pattern == "2:4"
    assert recipe(tmp_path, GOOD.replace("model: m", "model: 2020-01-01")).model == "2020-01-01"


@pytest.mark.parametrize(
    "model",
    [
        "x" * 5000,
        "x/" * 3000 + "y",
        "a:" + "b" * 5000,
        "nets:build" * 400,
        '"a\\0b"',
        "package:" + "p" * 5000,
        "~nobody/x",
    ],
)
def test_a_model_that_no_file_can_be_is_refused_or_left_to_the_job(tmp_path, model):
    try:
        assert recipe(tmp_path, GOOD.replace("model: m", f"model: {model}")).name
    except RecipeError as error:
        message = str(error)
    else:
        message = "accepted"
    assert len(message) < 8000


def test_a_pipe_or_a_device_of_any_length_is_read_only_so_far():
    with pytest.raises(RecipeError, match="the file is larger than"):
        load_recipe("/dev/zero")


@pytest.mark.parametrize("pattern", ["4:4", "1:1", "1:257", "1:999999999"])
def test_a_family_has_members_and_an_end(tmp_path, pattern):
    text = GOOD.replace("'2:4'", pattern) + "recover: {method: inherited, steps: 100}\n"
    with pytest.raises(
        RecipeError, match=rf"prune.pattern is {pattern}, but a family has one member for every n .*, 1 to 255 in all"
    ):
        recipe(tmp_path, text)


@pytest.mark.parametrize("task", ["[a]", "{a: b}", "1", "true", "1.5", "[[]]"])
def test_a_task_is_a_word(tmp_path, task):
    with pytest.raises(RecipeError, match=r"task"):
        recipe(tmp_path, GOOD + f"task: {task}\n")
