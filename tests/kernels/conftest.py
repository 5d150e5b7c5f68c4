"""All kernel tests run with scratch memory full of NaN, so that reading stale scratch shows in the result."""

from collections.abc import Iterator

import pytest

from tilewright.kernels.dispatch import native


@pytest.fixture(autouse=True, scope="session")
def _poisoned_scratch() -> Iterator[None]:
    module = native()
    assert module is not None, "the compiled extension must be installed for these tests: pip install -e ."
    module.poison_scratch(True)
    yield
    module.poison_scratch(False)
