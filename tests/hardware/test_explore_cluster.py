"""A sweep on two Ray workers of this machine, one of which is killed half-way: no result is lost or counted twice."""

import gc
import json
import os
import signal
from types import SimpleNamespace

import pytest

from tilewright.errors import NotSupportedError
from tilewright.hardware.explore import cluster as clustered
from tilewright.hardware.explore import explore, grid

POINTS = grid("s4", "resnet50", patterns=[None, "bank64@4x"], vary={"clock": [1e8 * k for k in range(1, 13)]})


@pytest.fixture
def address(monkeypatch):
    # One machine, so that Ray keeps to the loopback interface; it reads the variable when it is imported.
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    ray = pytest.importorskip("ray")
    from ray._private import ray_constants
    from ray.cluster_utils import Cluster

    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    node = {"num_cpus": 1, "object_store_memory": 80 << 20, "node_ip_address": "127.0.0.1"}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    cluster.add_node(**node)
    yield cluster.address
    ray.shutdown()
    cluster.shutdown()
    del cluster
    gc.collect()  # what Ray leaves behind is noticed here, not in a later test


@pytest.mark.slow
def test_a_worker_dies_and_the_sweep_is_whole(address, tmp_path, monkeypatch):
    local = explore(POINTS)
    real, flag, diary = clustered.evaluate, tmp_path / "killed", tmp_path / "diary"

    def evaluate(design):
        with diary.open("a") as file:
            file.write(f"{os.getpid()} {design.pattern} {design.changes}\n")
        if design.changes == (("clock", 3e8),) and design.pattern is None and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return real(design)

    monkeypatch.setattr(clustered, "evaluate", evaluate)
    monkeypatch.setattr(clustered, "_CHUNK", 4)
    file = tmp_path / "sweep.jsonl"
    distributed = explore(POINTS, out=file, address=address)
    assert flag.exists()
    assert distributed.rows == local.rows
    keys = [json.loads(line)["key"] for line in file.read_text().splitlines()]
    assert len(keys) == len(set(keys)) == len(POINTS)
    lines = diary.read_text().splitlines()
    again = [line for line in lines if "None (('clock', 300000000.0),)" in line]
    assert len({line.split()[0] for line in again}) == 2  # by the worker that died, and by another
    assert len({line.split()[0] for line in lines}) >= 2
    assert os.getpid() not in {int(line.split()[0]) for line in lines}
    before = len(lines)
    assert explore(POINTS, out=file, address=address).rows == local.rows  # all known: nothing is sent
    assert len(diary.read_text().splitlines()) == before


def test_ray_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(NotSupportedError, match=r"needs Ray: pip install 'tilewright\[cluster\]'"):
        explore(POINTS[:1], address="127.0.0.1:1")


def test_an_address_where_nobody_listens_is_refused_at_once(monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setattr("ray.init", lambda **_: pytest.fail("Ray tried for itself"))
    with pytest.raises(ConnectionError, match=r"no Ray cluster at 127\.0\.0\.1:1: .*leave address out"):
        explore(POINTS[:1], address="127.0.0.1:1")


class Unlucky:
    """A cluster on which the second task dies whatever is tried; results come in the order of the tasks."""

    exceptions = SimpleNamespace(RayError=type("RayError", (Exception,), {}))

    def __init__(self, fault):
        self.fault = fault

    def is_initialized(self):
        return True

    def remote(self, **_):
        return lambda chunk: type("Task", (), {"remote": staticmethod(lambda part: (chunk, tuple(part)))})

    def wait(self, waiting, num_returns):
        return waiting[:num_returns], waiting[num_returns:]

    def get(self, task):
        chunk, part = task
        if any(design.changes == (("clock", 3e8),) and design.pattern is None for _, design in part):
            raise self.exceptions.RayError(self.fault)
        return chunk(part)


def test_a_task_that_dies_for_good_names_its_designs_and_what_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(clustered, "_ray", lambda: Unlucky("the worker died\nunexpectedly"))
    monkeypatch.setattr(clustered, "_CHUNK", 2)
    file = tmp_path / "sweep.jsonl"
    with pytest.raises(RuntimeError) as caught:
        explore(POINTS, out=file, address="auto")
    kept = len(file.read_text().splitlines())
    message = str(caught.value)
    assert (
        "its worker died 4 times (the worker died unexpectedly). "
        "Its designs were s4 with resnet50 (dense, batch 1, clock 3e+08)"
    ) in message
    assert (
        f"If `out` names a file, it has the results of {kept} of {len(POINTS)} designs; run again to continue"
        in message
    )
    assert 0 < kept < len(POINTS)
    assert len(message) < 600
