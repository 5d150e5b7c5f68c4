"""The page on sparse training: its blocks run one after another in an empty folder."""

import re
from pathlib import Path

import pytest
import torch

from tilewright.patterns import verify_mask
from tilewright.pruning import masks_of, patterns_of

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "train-sparse.md"


def test_every_block_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 6
    names: dict = {}
    torch.manual_seed(0)
    for number, block in enumerate(blocks):
        exec(block, names)
        if number in (0, 2, 3, 4):
            model = names["model"]
            for name, pattern in patterns_of(model).items():
                assert verify_mask(pattern, masks_of(model)[name].numpy(), exact=True)
                assert torch.equal(model.get_parameter(name) != 0, masks_of(model)[name])
    assert "sparsity of the pruned: 0.5" in capsys.readouterr().out
    assert names["done"].losses[-1] < 0.5 * names["done"].losses[0]
    assert (tmp_path / "run.safetensors").exists()
    assert len(names["family"]) == 8
    assert names["small"].n <= 2


def test_the_blocks_about_quantizing_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchao", reason="torchao is not installed")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    first, second = re.findall(r"```python\n(.*?)```", PAGE.with_name("quantize.md").read_text(), re.DOTALL)
    exec(first, names)
    assert {type(module.weight).__name__ for module in names["model"] if hasattr(module, "weight")} == {"Int8Tensor"}
    exec(second, names)
    assert (tmp_path / "dense-with-zeros.safetensors").exists()
