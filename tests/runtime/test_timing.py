"""How two forms are timed: with cold weights, in turns, until stable, and watching what else runs. No test asserts a time."""

import multiprocessing
import os
import time

import pytest
import torch
from torch import nn

from tilewright.runtime.measured import timing
from tilewright.runtime.measured.timing import in_turns


def count_calls(monkeypatch, cache_bytes):
    """Return the weights that each form was called with, in order."""
    seen = {"dense": [], "sparse": []}

    class Form(nn.Linear):
        def __init__(self, kind):
            super().__init__(64, 64)
            self.kind = kind

        def forward(self, x):
            seen[self.kind].append(self.weight.data_ptr())
            return super().forward(x)

    monkeypatch.setattr(timing, "last_cache_bytes", lambda: cache_bytes)
    dense, sparse = Form("dense"), Form("sparse")
    sparse.load_state_dict(dense.state_dict())
    timing.timings(dense, sparse, [torch.randn(3, 64)])
    return seen


@pytest.mark.parametrize("cache_bytes", [1, 100_000, 1_000_000])
def test_as_many_weights_in_turn_as_exceed_the_last_cache(monkeypatch, cache_bytes):
    seen = count_calls(monkeypatch, cache_bytes)
    weight = 4 * (64 * 64 + 64)
    for addresses in seen.values():
        copies = set(addresses[1:])  # the first call is made by the check
        assert len(copies) >= 2
        assert len(copies) * weight >= 2 * cache_bytes
        assert (len(copies) - 1) * weight < max(2 * cache_bytes, 2 * weight)
        order = addresses[1 : 1 + 3 * len(copies)]
        assert order == order[: len(copies)] * 3  # in rotation: no weight is reused before all others


def test_no_more_copies_of_a_tiny_layer_than_stated(monkeypatch):
    seen = count_calls(monkeypatch, 1 << 30)
    assert {len(set(addresses[1:])) for addresses in seen.values()} == {timing._COPIES}


def test_a_busy_machine_is_tried_three_times(monkeypatch):
    results = iter([timing.Timing(1, 1, quiet) for quiet in (False, True, False, False, False)])
    monkeypatch.setattr(timing, "in_turns", lambda *_: next(results))
    layer = nn.Linear(8, 8)
    found = timing.timings(layer, layer, [torch.randn(1, 8), torch.randn(2, 8)])
    assert [result.quiet for result in found] == [True, False]
    assert next(results, None) is None


def test_both_forms_take_turns_and_each_goes_first_as_often():
    order = []

    def form(name):
        def run():
            if not order or order[-1] != name:
                order.append(name)
            time.sleep(0.003)
            return 1

        return run

    in_turns(form("dense"), form("sparse"))
    assert order[:2] == ["dense", "sparse"]
    rounds = order[2:]
    assert len(rounds) >= timing._LEAST
    assert {"dense", "sparse"} == set(rounds)


def test_it_goes_on_while_a_form_gets_faster(monkeypatch):
    calls = []

    def settling(seconds):
        def run():
            calls.append(seconds)
            time.sleep(max(0.003, 0.02 * 0.7 ** len(calls)))
            return 1

        return run

    monkeypatch.setattr(timing, "_SECONDS", 60)
    in_turns(settling(1), settling(2))
    assert len(calls) > 2 * timing._LEAST


@pytest.mark.parametrize(
    ("times", "stable"),
    [([9, 8, 7, 6, 5, 4], False), ([4, 4, 4, 4, 4, 4], True), ([5, 4, 4, 5, 5, 5], True), ([5, 5, 5, 5, 5, 4.96], True), ([5, 5, 5, 5, 5, 4.94], False)],
)  # fmt: skip
def test_what_counts_as_stable(times, stable):
    assert timing._stable(times) == stable


def spin(until):
    while time.time() < until:
        pass


@pytest.mark.skipif(not os.path.exists("/proc/stat"), reason="the system does not say what its processors do")
def test_work_of_other_processes_is_seen():
    other = multiprocessing.get_context("spawn").Process(target=spin, args=(time.time() + 20,), daemon=True)
    other.start()
    try:
        time.sleep(3)  # it imports this file first
        clock = timing._Clock()
        spin(time.time() + 1.0)
        assert clock.others() > timing._OTHERS
    finally:
        other.kill()
        other.join()


def test_own_work_is_not_that_of_others(monkeypatch):
    monkeypatch.setattr(timing, "_worked", time.process_time)  # the processors did nothing else
    clock = timing._Clock()
    spin(time.time() + 0.2)
    assert clock.others() == 0
    monkeypatch.setattr(timing, "_worked", lambda: time.process_time() + 1000)
    assert clock.others() > 100


def test_an_uneven_measurement_is_not_quiet():
    state = {"n": 0}

    def uneven():
        state["n"] += 1
        time.sleep(0.002 if state["n"] % 4 == 0 else 0.01)
        return 1

    assert not in_turns(uneven, uneven).quiet


def test_the_size_of_the_last_cache_is_one_a_cache_can_have():
    assert 1 << 18 <= timing.last_cache_bytes() <= 128 << 20


@pytest.mark.parametrize(
    ("texts", "size"),
    [
        (["48K", "1024K", "32M"], 32 << 20),
        (["512K"], 512 << 10),
        (["65536"], 65536),
        (["1G"], 128 << 20),
        ([], 32 << 20),
    ],
)
def test_the_size_of_the_last_cache_is_read_in_its_unit(monkeypatch, tmp_path, texts, size):
    for number, text in enumerate(texts):
        (tmp_path / f"index{number}").mkdir()
        (tmp_path / f"index{number}" / "size").write_text(text + "\n")
    monkeypatch.setattr(timing, "Path", lambda _: tmp_path)
    assert timing.last_cache_bytes.__wrapped__() == size


def test_the_share_of_others_is_what_they_worked_in_the_time_that_passed(monkeypatch):
    monkeypatch.setattr(timing.os, "cpu_count", lambda: 1)
    monkeypatch.setattr(timing.os, "sysconf", lambda _: 100)  # ticks of a hundredth of a second; two are not counted
    monkeypatch.setattr(timing, "_worked", lambda: 10.0)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: 100.0)
    monkeypatch.setattr(timing.time, "process_time", lambda: 1.0)
    clock = timing._Clock()
    monkeypatch.setattr(timing, "_worked", lambda: 12.0)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: 104.0)
    monkeypatch.setattr(timing.time, "process_time", lambda: 1.5)
    assert clock.others() == pytest.approx((2.0 - 0.5 - 0.02) / 4)
