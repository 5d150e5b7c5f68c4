"""The callbacks on two processes: equal masks, the results of one process at the same global batch, and resuming in one process."""

from pathlib import Path

import pytest
import torch

for package in ("transformers", "accelerate", "lightning"):
    pytest.importorskip(package, reason=f"{package} is not installed")

from tilewright.patterns import verify_mask  # noqa: E402 (after the check for optional packages)
from tilewright.pruning import masks_of, patterns_of  # noqa: E402 (as above)

from .adapter_ranks import METHODS, TRAINERS  # noqa: E402 (as above)
from .launch import on_two_processes  # noqa: E402 (as above)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without torch.distributed"),
    pytest.mark.filterwarnings("ignore"),  # the trainers raise many
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the program once on two processes; return where its files are."""
    return on_two_processes("adapter_ranks.py", tmp_path_factory.mktemp("adapters"))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("trainer", TRAINERS)
def test_two_processes_prune_alike_and_as_one_does(folder: Path, trainer: str, name: str, tmp_path: Path) -> None:
    (state, masks), (other, other_masks) = (torch.load(folder / f"rank{rank}.pt")[trainer, name] for rank in (0, 1))
    assert set(masks) == {"first.weight", "last.weight"}
    assert all(torch.equal(mask, other_masks[key]) for key, mask in masks.items())
    assert all(torch.equal(value, other[key]) for key, value in state.items())
    alone = TRAINERS[trainer](tmp_path, name, 1)
    for key, pattern in patterns_of(alone).items():
        assert verify_mask(pattern, masks[key].numpy(), exact=True)
        assert torch.equal(masks_of(alone)[key], masks[key])
    for key, value in alone.state_dict().items():
        torch.testing.assert_close(state[key], value, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("trainer", TRAINERS)
def test_one_process_goes_on_from_the_checkpoint_of_two(folder: Path, trainer: str, name: str) -> None:
    state, _ = torch.load(folder / "rank0.pt")[trainer, name]
    alone = TRAINERS[trainer](folder / f"{trainer}-{name}", name, 1, resume=True)
    for key, value in alone.state_dict().items():
        torch.testing.assert_close(state[key], value, rtol=2e-4, atol=2e-6)
