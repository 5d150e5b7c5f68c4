"""Two processes: DDP and sharded weights match a single process, and one process resumes from a checkpoint of two."""

import shutil
from pathlib import Path

import pytest
import torch

from tilewright.errors import ArgumentError
from tilewright.pruning import masks_of, patterns_of
from tilewright.records import digest
from tilewright.training import Share

from .launch import on_two_processes
from .ranks import KINDS, METHODS, batches, build, plain_loop, train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without torch.distributed"),
]

Results = list[dict]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the program once on two processes; return where its files are."""
    return on_two_processes("ranks.py", tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    """The results of each process."""
    return [torch.load(folder / f"rank{rank}.pt") for rank in (0, 1)]


def close(given: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert given.keys() == expected.keys()
    for name, tensor in expected.items():
        if tensor.dtype == torch.bool:
            assert torch.equal(given[name], tensor), name
        else:
            torch.testing.assert_close(
                given[name], tensor, rtol=2e-4, atol=2e-6, msg=lambda text, name=name: f"{name}: {text}"
            )


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_all_processes_have_the_same_masks_and_weights(results: Results, kind: str, name: str) -> None:
    (first, losses, changes, masks), (second, other_losses, other_changes, other_masks) = (
        r[kind, name] for r in results
    )
    assert (losses, changes, masks) == (other_losses, other_changes, other_masks)
    assert all(torch.equal(tensor, second[key]) for key, tensor in first.items())
    assert changes > 0 or name == "fixed"


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_give_what_one_gives_at_the_same_global_batch(
    results: Results, kind: str, name: str, tmp_path: Path
) -> None:
    model = build(name)
    training = train(model, name, tmp_path / "state")
    state, losses, changes, masks = results[0][kind, name]
    close(state, model.state_dict())
    assert losses == pytest.approx(training.losses, rel=1e-4)
    assert (changes, masks) == (training.mask_changes, digest(masks_of(model)))
    model = build(name)
    plain_loop(model, name)
    close(results[0]["loop", kind, name], model.state_dict())


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_one_process_goes_on_from_a_checkpoint_of_two(
    results: Results, folder: Path, kind: str, name: str, tmp_path: Path
) -> None:
    shutil.copy(folder / f"half-{kind}-{name}", tmp_path / "state")
    model = build(name)
    training = train(model, name, tmp_path / "state")
    assert training.resumed_from == 3
    close(model.state_dict(), results[0][kind, name][0])
    assert set(patterns_of(model)) == {"first.weight", "second.weight", "last.weight"}


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_go_on_to_the_same_bits(results: Results, kind: str) -> None:
    for result in results:
        whole, again = result[kind, "srste"][0], result["again", kind]
        assert all(torch.equal(tensor, again[name]) for name, tensor in whole.items())


def test_shares_make_up_the_batch() -> None:
    whole = [{"x": torch.arange(12).reshape(6, 2), "rest": [torch.arange(6), "text"]}]
    parts = [Share(whole, rank=rank, size=3)[0] for rank in range(3)]
    assert torch.equal(torch.cat([part["x"] for part in parts]), whole[0]["x"])
    assert torch.equal(torch.cat([part["rest"][0] for part in parts]), torch.arange(6))
    assert [part["rest"][1] for part in parts] == ["text"] * 3
    assert torch.equal(Share(batches())[0], batches()[0])
    with pytest.raises(
        ArgumentError, match=r"a tensor of shape \[16, 12\] cannot be split into 3 equal parts .* batch size"
    ):
        Share(batches(), rank=0, size=3)[0]
    with pytest.raises(ArgumentError, match="rank must be from 0 to 1; got 2"):
        Share(batches(), rank=2, size=2)
