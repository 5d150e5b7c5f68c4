"""n:m in convolutions: groups of channels at one position of the kernel, or no pruning and a reason."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tilewright.errors import PatternError
from tilewright.pruning import masks_of, sparsify_

KINDS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def most_kept(weight, n, m):
    """Return the number of channels kept in the fullest group of m, in the order that sparse tensor cores read: output, position, channel."""
    rows = weight.movedim(1, -1).reshape(-1, weight.shape[1])
    rows = nn.functional.pad(rows, (0, -rows.shape[1] % m))
    return int(rows.reshape(-1, m).count_nonzero(1).max())


@settings(max_examples=60, deadline=None)
@given(
    axes=st.sampled_from([1, 2, 3]),
    channels=st.sampled_from([1, 2, 3, 4, 6, 8, 12]),
    kernel=st.sampled_from([1, 2, 3]),
    groups=st.sampled_from([1, 2]),
    n_m=st.sampled_from([(2, 4), (1, 2), (1, 4), (3, 6)]),
)
def test_groups_never_span_positions_of_the_kernel(axes, channels, kernel, groups, n_m):
    n, m = n_m
    conv = KINDS[axes](channels * groups, 8, kernel, groups=groups)
    report = sparsify_(nn.Sequential(conv), f"{n}:{m}")
    row = report.rows[0]
    if channels % m and kernel > 1:
        assert not masks_of(conv)
        assert row["density"] == 1
        assert "at each position of its kernel" in row["reason"]
        assert not (conv.weight == 0).any()
    else:
        assert most_kept(conv.weight.detach(), n, m) <= n
        assert row["pattern"] == (f"{n}:{m}" if channels > n else "")  # a group that keeps everything is not pruned


def test_a_depthwise_filter_loses_no_taps():
    conv = nn.Conv2d(32, 32, 3, groups=32)
    report = sparsify_(nn.Sequential(conv, nn.Conv2d(32, 8, 1)), "2:4")
    assert int(conv.weight.flatten(1).count_nonzero(1).min()) == 9
    assert report.rows[0]["reason"].startswith("it is depthwise: one channel at each position of its kernel")
    with pytest.raises(PatternError, match="it is depthwise"):
        sparsify_(nn.Sequential(nn.Conv2d(32, 32, 3, groups=32)), "2:4", strict=True)


@pytest.mark.parametrize("text", ["tw4@50%", "any@50%"])
def test_other_patterns_take_any_convolution(text):
    conv = nn.Conv2d(6, 8, 3)
    torch.manual_seed(0)
    assert sparsify_(nn.Sequential(conv), text).rows[0]["density"] == pytest.approx(0.5, abs=0.1)
