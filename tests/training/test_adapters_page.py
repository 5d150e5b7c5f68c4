"""The pages about adapters and progressive distillation: every block runs and does what the text says."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tilewright.patterns import verify_mask
from tilewright.pruning import masks_of, patterns_of
from tilewright.training import check_masks

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def exact(model: Any) -> bool:
    masks = masks_of(model)
    return all(bool(verify_mask(p, masks[name].numpy(), exact=True)) for name, p in patterns_of(model).items())


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:accelerate")
@pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
def test_every_block_about_adapters_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for package in ("accelerate", "lightning"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    monkeypatch.chdir(tmp_path)
    code = blocks("how-to/adapters.md")
    assert len(code) == 5
    names: dict[str, Any] = {}
    for block in code:
        exec(block, names)
    for kind in ("model", "classifier", "module"):
        check_masks(names[kind])
        assert exact(names[kind])
    assert {str(p) for p in patterns_of(names["model"]).values()} == {"2:4"}
    assert set(masks_of(names["model"])) == {"0.weight", "2.weight"}
    assert sorted(path.name for path in (tmp_path / "hf-run").glob("checkpoint-*")) == ["checkpoint-12", "checkpoint-6"]
    assert set(torch.load("adapters.pt")) == {"0.lora_A", "0.lora_B", "2.lora_A", "2.lora_B"}
    assert "largest share dropped: 0.7" in capsys.readouterr().out


def test_the_example_of_progressive_distillation_learns() -> None:
    (block,) = blocks("explanation/progressive-distillation.md")
    names: dict[str, Any] = {}
    exec(block, names)
    assert exact(names["student"])
    assert names["result"].steps == 200
    losses = names["result"].losses
    assert sum(losses[-10:]) < 0.9 * sum(losses[80:90])
    densities = [float(mask.float().mean()) for mask in masks_of(names["student"]).values()]
    assert densities == pytest.approx([1 / 4] * 4)
