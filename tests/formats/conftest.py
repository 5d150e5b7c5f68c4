"""Puts this folder on the path, so that its tests can import helper modules by name."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from bending import Parts, good_files


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    """The files of a small checkpoint with every encoding, as bytes."""
    return good_files(tmp_path_factory.mktemp("good"))


@pytest.fixture
def parts(good):
    """The same, taken apart."""
    return Parts(good)
