"""Settings all tests share: derandomised Hypothesis without deadlines (no test depends on time), no network, own caches."""

import os

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "gate", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("gate")


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """Measured choices of a test run stay in it."""
    os.environ["TILEWRIGHT_CACHE"] = str(tmp_path_factory.mktemp("cache"))
