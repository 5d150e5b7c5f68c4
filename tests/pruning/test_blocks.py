"""Block-by-block pruning: the same result as in memory, one block in memory at a time, and resumption after a kill."""

import gc
import json
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tilewright.errors import ArgumentError, FormatError
from tilewright.pruning import Calibration, Obs, masks_of, next_batch, sparsify_, sparsify_blocks

NAMES = ["layer.0", "layer.1", "layer.2", "layer.3"]


class Block(nn.Module):
    """A block that takes a mask and returns a tuple, as blocks in transformers do."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, hidden_states: Tensor, scale: Tensor) -> tuple[Tensor, None]:
        return hidden_states + scale * self.down(self.up(hidden_states).relu()), None


def dense(name: str) -> Block:
    return Block(int(name.split(".")[1]))


def data() -> Calibration:
    generator = torch.Generator().manual_seed(9)
    return Calibration(
        [{"hidden_states": torch.randn(5, 7, 8, generator=generator), "scale": torch.ones(1)} for _ in range(3)]
    )


def prune(folder: Path, saved: dict[str, nn.Module], **options: Any) -> Any:
    arguments = {"load": dense, "save": saved.__setitem__, "data": data(), "folder": folder, **options}
    return sparsify_blocks(NAMES, "2:4", **arguments)


class Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.ModuleList([dense(name) for name in NAMES])

    def forward(self, hidden_states: Tensor, scale: Tensor) -> Tensor:
        for block in self.layer:
            hidden_states = block(hidden_states, scale)[0]
        return hidden_states


@pytest.mark.parametrize(("score", "update"), [("second-order", "obs"), ("magnitude", "none")])
def test_block_by_block_is_the_same_as_the_whole_model_in_sequence(tmp_path: Path, score: str, update: str) -> None:
    saved: dict[str, nn.Module] = {}
    report = prune(tmp_path, saved, score=score, update=update)
    whole = Chain()
    other = sparsify_(whole, "2:4", score=score, update=update, data=data() if update == "obs" else None)
    for name in NAMES:
        block = whole.get_submodule(name)
        for ours, theirs in zip(saved[name].parameters(), block.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        assert set(masks_of(saved[name])) == {"up.weight", "down.weight"}
    assert [row["name"] for row in report.rows] == [row["name"] for row in other.rows]
    assert report.summary["density of the pruned"] == 0.5
    assert report.ok
    assert sorted(path.name for path in tmp_path.iterdir()) == ["progress.json"]


def test_one_block_is_in_memory_at_a_time(tmp_path: Path) -> None:
    alive: weakref.WeakSet[nn.Module] = weakref.WeakSet()
    counts = []

    def load(name: str) -> nn.Module:
        gc.collect()
        counts.append(sum(p.numel() for block in alive for p in block.parameters()))
        block = dense(name)
        alive.add(block)
        return block

    prune(tmp_path, {}, load=load, save=lambda name, block: None)
    assert counts == [0] * len(NAMES)


SCRIPT = """
    import os, signal, sys
    from pathlib import Path
    import torch
    sys.path.insert(0, {root!r})
    from tests.pruning.test_blocks import NAMES, data, dense
    from tilewright.pruning import sparsify_blocks
    torch.set_num_threads(1)
    def run(out, dies):
        out.mkdir(exist_ok=True)
        def load(name):
            with (out / "log").open("a") as log:
                log.write(f"{{name}} ")
            return dense(name)
        def save(name, block):
            torch.save(block.state_dict(), out / name)
            if name == dies:
                os.kill(os.getpid(), signal.SIGKILL)
        report = sparsify_blocks(NAMES, "2:4", load=load, save=save, data=data(), folder=out / "work")
        (out / "report").write_text(report.to_json())
    for out, dies in zip(sys.argv[1::2], sys.argv[2::2]):
        run(Path(out), dies)
"""


def run(*words: str) -> int:
    script = textwrap.dedent(SCRIPT.format(root=str(Path(__file__).parents[2])))
    return subprocess.run([sys.executable, "-c", script, *words], check=False).returncode


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run(str(cut), "layer.2") == -9  # saved, but not yet recorded as finished
    assert run(str(cut), "never", str(cut), "never", str(whole), "never") == 0
    # The interrupted block is processed again, those before it are not; a third call, with everything finished, loads nothing.
    assert (cut / "log").read_text().split() == ["layer.0", "layer.1", "layer.2", "layer.2", "layer.3"]
    for name in NAMES:
        ours, theirs = (torch.load(folder / name, weights_only=True) for folder in (cut, whole))
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert (cut / "report").read_text() == (whole / "report").read_text()


def test_progress_of_another_run_is_refused(tmp_path: Path) -> None:
    prune(tmp_path, {})
    for other, words in (
        ({"score": "magnitude"}, "different values of how"),
        ({"update": Obs(damping=0.1)}, "different values of how"),
        (
            {"data": Calibration([*data().batches[:2], {**data().batches[2], "scale": torch.zeros(1)}])},
            "different values of data",
        ),
    ):
        with pytest.raises(ArgumentError, match=words):
            prune(tmp_path, {}, **other)
    (tmp_path / "progress.json").write_text("{")
    with pytest.raises(FormatError, match=r"progress\.json is not the progress file of a block-by-block run"):
        prune(tmp_path, {})


def test_damaged_batches_are_named(tmp_path: Path) -> None:
    def fails(name: str, block: nn.Module) -> None:
        if name == NAMES[1]:
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        prune(tmp_path, {}, save=fails)
    assert json.loads((tmp_path / "progress.json").read_text())["done"] == 1
    (tmp_path / "batches-1.pt").write_bytes(b"x")
    with pytest.raises(FormatError, match=r"cannot read .*batches-1\.pt, the batches of the next block"):
        prune(tmp_path, {})


def test_the_next_batch_has_the_output_in_it() -> None:
    x, y = torch.zeros(1), torch.ones(1)
    assert next_batch(x, y) is y
    assert next_batch((x, 3), (y, None)) == (y, 3)
    assert next_batch([x, 3], y) == [y, 3]
    assert next_batch({"a": x, "b": 2}, y) == {"a": y, "b": 2}
