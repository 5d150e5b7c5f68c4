"""Run the command in this process."""

import json
from dataclasses import dataclass

import pytest

from tilewright.cli import main


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def body(self):
        """The one JSON object on stdout."""
        return json.loads(self.out)


@pytest.fixture
def tilewright(capfd):
    """Run the command with captured file descriptors, so that output of C code counts as well."""

    def call(*words):
        capfd.readouterr()
        code = main([str(word) for word in words])
        out, err = capfd.readouterr()
        return Done(code, out, err)

    return call
