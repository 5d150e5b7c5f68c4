"""Put this folder on the path, so that tests can import its models by name, and run every packed layer sparse, so that timings on a busy
machine do not affect what a test sees."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import pytest

from tilewright.runtime.measured import choice
from tilewright.runtime.measured.timing import Timing


@pytest.fixture(autouse=True, scope="session")
def sparse_wins(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TILEWRIGHT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(choice, "timings", lambda dense, sparse, inputs: [Timing(2.0, 1.0, True) for _ in inputs])
        patch.setattr(choice, "whole_ratios", lambda *_: None)
        yield
