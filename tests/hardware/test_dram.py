"""The DRAM model: closed forms to the clock, every timing between all pairs of commands, streams equal to their events."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tilewright.errors import ArgumentError
from tilewright.hardware import assumed
from tilewright.hardware.dram import DRAMS, TIMINGS, Dram, DramSpec, Requests, preset
from tilewright.hardware.dram.channel import Channel

BASE = {
    "burst": 4, "tRCD": 11, "tRP": 12, "tRAS": 30, "tCL": 13, "tCWL": 9, "tCCD_S": 4, "tCCD_L": 6, "tRRD_S": 4, "tRRD_L": 6, "tFAW": 26,
    "tWR": 14, "tRTP": 7, "tWTR_S": 3, "tWTR_L": 8, "tRFC": 120, "tREFI": 1_000_000,
}  # fmt: skip


def spec(groups=4, banks=4, columns=8, channels=1, window=64, **changes):
    timing = {name: assumed(value, "cycle", "test") for name, value in {**BASE, **changes}.items()}
    return DramSpec(
        "test",
        assumed(channels, "", "test"),
        groups,
        banks,
        columns * 64,
        64,
        assumed(1e9, "Hz", "test"),
        timing,
        window,
    )


def address(of, row=0, bank=0, group=0, column=0):
    """The byte address at a place of a one-channel DRAM."""
    return (((row * of.banks + bank) * of.columns + column) * of.bank_groups + group) * of.burst_bytes


@given(st.integers(1, 200))
def test_hits_on_one_bank(n):
    of = spec()
    run = Dram(of).time([address(of, column=i % 8) for i in range(n)])
    assert run.cycles == 11 + (n - 1) * 6 + 13 + 4
    assert (run.stats.misses, run.stats.hits, run.stats.conflicts, run.stats.activates) == (1, n - 1, 0, 1)


@given(st.integers(1, 100), st.sampled_from([30, 10]), st.booleans())
def test_conflicts_on_one_bank(n, tRAS, write):
    of = spec(tRAS=tRAS)
    run = Dram(of).time(Requests.of([address(of, row=i) for i in range(n)], write))
    # A row is held for tRAS, or until its one burst allows the precharge.
    period = max(tRAS, 11 + (9 + 4 + 14 if write else 7)) + 12
    assert run.cycles == 11 + (n - 1) * period + (9 if write else 13) + 4
    assert (run.stats.misses, run.stats.conflicts) == (1, n - 1)


@given(st.integers(1, 600))
def test_perfect_interleave_keeps_the_bus_full(n):
    of = spec(columns=16)
    run = Dram(of).time(Requests.sequential(of, n * 64))
    assert run.cycles == 11 + (n - 1) * 4 + 13 + 4
    assert run.stats.activates == len({(i // 64, i % 4) for i in range(n)})


@given(st.integers(1, 3000), st.sampled_from([400, 1000, 1013]))
def test_refresh_share_of_hits_on_one_bank(n, tREFI):
    of = spec(tREFI=tREFI)
    run = Dram(of).time([address(of, column=i % 8) for i in range(n)])
    column, due, refreshes, activated = 11, tREFI, 0, 0
    for _ in range(n - 1):
        following = column + 6
        if following >= due:
            # The row closes when tRTP and tRAS allow, tRP and the refresh pass, the row opens again.
            activated = max(due, column + 7, activated + 30) + 12 + 120
            following, due, refreshes = activated + 11, due + tREFI, refreshes + 1
        column = following
    assert run.cycles == column + 13 + 4
    assert run.stats.refreshes == refreshes
    assert run.stats.misses == refreshes + 1


def test_a_long_stream_loses_the_refreshes_and_little_else():
    of = preset("ddr4-2400")
    t = of.cycles
    lost = 1 - Dram(of).efficiency(1 << 28)
    assert t.tRFC / t.tREFI < lost < (t.tRFC + 2 * (t.tRP + t.tRCD)) / t.tREFI + 0.001


def test_five_activates_wait_for_the_window_of_four():
    of = spec(tFAW=50)
    run = Dram(of).time([address(of, group=i % 4, bank=i // 4) for i in range(5)])
    assert run.cycles == 50 + 11 + 13 + 4
    of = spec(tRRD_L=20)
    assert Dram(of).time([address(of, bank=0), address(of, bank=1)]).cycles == 20 + 11 + 13 + 4


def test_turning_the_bus():
    of = spec()
    both = [address(of), address(of, column=1)]
    assert Dram(of).time(Requests.of(both, [False, True])).cycles == 11 + (13 + 4 + 2 - 9) + 9 + 4
    assert Dram(of).time(Requests.of(both, [True, False])).cycles == 11 + (9 + 4 + 8) + 13 + 4
    apart = [address(of), address(of, group=1)]  # the activate of the other group is hidden
    assert Dram(of).time(Requests.of(apart, [True, False])).cycles == 11 + (9 + 4 + 3) + 13 + 4


def test_a_row_closes_only_when_its_last_write_allows():
    of = spec(tWR=50)
    run = Dram(of).time(Requests.of([address(of), address(of, column=1), address(of, row=1)], [True, False, False]))
    assert run.cycles == 11 + (9 + 4 + 50) + 12 + 11 + 13 + 4


def test_a_column_on_the_due_clock_waits_for_the_refresh():
    of = spec(tREFI=1013)  # = 11 + 167 * 6
    before, after = (Dram(of).time([address(of, column=i % 8) for i in range(n)]) for n in (167, 168))
    assert (before.stats.refreshes, after.stats.refreshes) == (0, 1)
    assert before.cycles == 11 + 166 * 6 + 17
    assert after.cycles == 11 + 166 * 6 + 7 + 12 + 120 + 11 + 17


def test_idle_time_is_refreshed_too():
    of = spec(tREFI=1000)
    run = Dram(of).time(Requests.of([0, 64], arrivals=[0, 5500]))
    assert run.stats.refreshes == 5
    assert run.cycles == 5500 + 11 + 13 + 4


def test_a_small_window_hides_fewer_activates():
    wide, narrow = spec(columns=2), spec(columns=2, window=1)
    assert Dram(narrow).stream(64 * 512).cycles > Dram(wide).stream(64 * 512).cycles


timings = st.fixed_dictionaries(
    {
        "burst": st.sampled_from([1, 2, 4]), "extra_S": st.integers(0, 2), "extra_L": st.integers(0, 5), "tRCD": st.integers(1, 20),
        "tRP": st.integers(1, 20), "tRAS": st.integers(1, 40), "tCL": st.integers(1, 20), "tCWL": st.integers(1, 20),
        "tRRD_S": st.integers(1, 8), "tFAW": st.integers(1, 40), "tWR": st.integers(1, 20), "tRTP": st.integers(1, 12),
        "tWTR_S": st.integers(1, 8), "tRFC": st.integers(60, 200), "free": st.integers(100, 900),
    }
)  # fmt: skip
shapes = st.fixed_dictionaries(
    {
        "groups": st.sampled_from([1, 2, 4]), "banks": st.sampled_from([1, 2, 3, 4]), "columns": st.integers(1, 9),
        "channels": st.integers(1, 3), "window": st.sampled_from([1, 2, 5, 64]),
    }
)  # fmt: skip


def drawn(times, shape):
    times = dict(times)
    times["tCCD_S"] = times["burst"] + times.pop("extra_S")
    times["tCCD_L"] = times["tCCD_S"] + times.pop("extra_L")
    times["tRRD_L"], times["tWTR_L"] = times["tRRD_S"] + 2, times["tWTR_S"] + 3
    times["tREFI"] = times["tRFC"] + times.pop("free")
    return spec(**shape, **times)


@given(timings, shapes, st.integers(0, 4000), st.sampled_from(["read", "write"]))
def test_a_stream_is_its_events(times, shape, bursts, kind):
    of = drawn(times, shape)
    size = bursts * 64 - (bursts > 0)  # the last burst is not full
    fast, events = Dram(of).stream(size, kind), Dram(of).time(Requests.sequential(of, size, kind))
    assert fast == events


@pytest.mark.parametrize("name", DRAMS)
@pytest.mark.parametrize("kind", ["read", "write"])
def test_a_stream_is_its_events_on_every_preset(name, kind):
    of = replace(preset(name), channels=assumed(1, "", "one channel, to see many refreshes"))
    size = 60_000 * of.burst_bytes + 1
    assert Dram(of).stream(size, kind) == Dram(of).time(Requests.sequential(of, size, kind))


@given(timings, shapes, st.lists(st.tuples(st.integers(0, 400), st.booleans(), st.integers(0, 30)), max_size=120))
@example({**{k: 1 for k in BASE if k not in ("tCCD_S", "tCCD_L", "tRRD_L", "tWTR_L", "tREFI")}, "extra_S": 0, "extra_L": 0,
          "tRFC": 60, "free": 100}, {"groups": 1, "banks": 1, "columns": 1, "channels": 1, "window": 1}, [(0, True, 0)])  # fmt: skip
def test_every_pair_of_commands_keeps_its_distance(times, shape, asked):
    """All commands of a random run, checked pair by pair against the meaning of each timing."""
    of = drawn(times, {**shape, "channels": 1})
    t, groups = of.cycles, of.bank_groups
    channel = Channel(t, groups, of.banks, of.window)
    _, banks, rows = Dram(of).locate(np.array([a * 64 for a, _, _ in asked], dtype=np.int64))
    opened, columns, clock = [], [], 0
    for bank, row, (_, write, wait) in zip(banks.tolist(), rows.tolist(), asked, strict=True):
        clock += wait
        at = channel.access(bank, row, write, clock)
        assert at >= clock
        assert channel.row[bank] == row
        if not opened or (bank, channel.activated[bank]) not in opened:
            opened.append((bank, channel.activated[bank]))
        assert at >= channel.activated[bank] + t.tRCD
        columns.append((bank, at, write))
    for i, (bank, at, write) in enumerate(columns):
        for other, before, wrote in columns[:i]:
            same = other % groups == bank % groups
            if wrote == write:
                least = t.tCCD_L if same else t.tCCD_S
            elif write:
                least = max(t.tCL + t.burst + 2 - t.tCWL, t.tCCD_S)
            else:
                least = t.tCWL + t.burst + (t.tWTR_L if same else t.tWTR_S)
            assert at - before >= least
    for i, (bank, at) in enumerate(opened):
        for j, (other, before) in enumerate(opened[:i]):
            assert at - before >= (t.tRRD_L if other % groups == bank % groups else t.tRRD_S)
            assert i - j < 4 or at - before >= t.tFAW
            if other == bank:
                assert at - before >= t.tRAS + t.tRP
        for other, column, wrote in columns:
            if other == bank and column < at:
                assert at >= column + (t.tCWL + t.burst + t.tWR if wrote else t.tRTP) + t.tRP
        # What comes after a due refresh waits for it: its column would have come after too.
        assert at < t.tREFI or at % t.tREFI >= t.tRFC
    for a, b in pairwise(columns):
        assert abs((b[1] + (t.tCWL if b[2] else t.tCL)) - (a[1] + (t.tCWL if a[2] else t.tCL))) >= t.burst


@given(timings, shapes, st.lists(st.integers(0, 3000), max_size=200), st.booleans())
def test_no_run_beats_the_peak_and_counts_add_up(times, shape, places, write):
    of = drawn(times, shape)
    run = Dram(of).time(Requests.of(np.array(places, dtype=np.int64) * 64, write))
    assert run.seconds * of.peak >= run.bytes * (1 - 1e-12)
    assert 0 <= run.utilisation <= 1
    assert run.stats.hits + run.stats.misses + run.stats.conflicts == run.stats.bursts == len(places)
    assert (run.stats.writes if write else run.stats.reads) == len(places)
    assert 0 <= run.stats.hit_rate < 1
    if places:
        assert run.utilisation == pytest.approx(run.bytes / (run.seconds * of.peak))


def test_channels_work_side_by_side():
    of, twin = spec(), spec(channels=2)
    assert Dram(twin).stream(1 << 16).cycles == Dram(of).stream(1 << 15).cycles
    assert Dram(twin).stream(1 << 16).stats == Dram(of).stream(1 << 15).stats * 2


def test_random_access_is_slower_than_a_stream():
    of = preset("hbm2e")
    places = np.random.default_rng(0).integers(0, 1 << 24, 20_000) * 32
    run = Dram(of).time(places)
    assert run.stats.hit_rate < 0.1
    assert run.utilisation < 0.75 * Dram(of).efficiency(20_000 * 32)


def test_traces_are_text():
    asked = Requests.of([0, 64, 4096], [False, True, False])
    assert list(asked.trace()) == ["0x0 R", "0x40 W", "0x1000 R"]
    assert len(asked) == 3


@pytest.mark.parametrize("name", DRAMS)
def test_presets_state_a_source_for_every_number(name):
    of = preset(name)
    assert set(of.timing) == set(TIMINGS)
    for quantity in (of.channels, of.clock, *of.timing.values()):
        assert quantity.source
        assert quantity.provenance != "assumed" or len(quantity.source) > 10


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("hbm2e", 2039e9),
        ("hbm2", 900e9),
        ("gddr6x", 936e9),
        ("gddr6", 320e9),
        ("lpddr4x", 68.3e9),
        ("ddr4-2400", 19.2e9),
    ],
)
def test_peaks_are_those_of_the_cards(name, peak):
    assert preset(name).peak == pytest.approx(peak, rel=0.003)


def test_the_measured_stream_of_an_s4_is_near():
    """61.4 GB/s read and 61.6 GB/s written in transfers of 100 MB (papers.md, 1.2); nothing was fitted to them."""
    memory = Dram(preset("lpddr4x"))
    assert 100e6 / memory.stream(100_000_000).seconds == pytest.approx(61.4e9, rel=0.03)
    assert 100e6 / memory.stream(100_000_000, "write").seconds == pytest.approx(61.6e9, rel=0.03)


def test_refusals_are_sentences():
    with pytest.raises(
        ArgumentError, match=r"unknown DRAM 'hbm9'; did you mean 'hbm2'.* Expected one of 'hbm2e', 'hbm2'"
    ):
        preset("hbm9")
    with pytest.raises(ArgumentError, match=r"needs burst <= tCCD_S <= tCCD_L.*got, in clocks, 4, 3, 6"):
        spec(tCCD_S=3)
    with pytest.raises(ArgumentError, match="refreshes for 20 clocks every 1000000; a refresh must take longer"):
        spec(tRFC=20)
    with pytest.raises(ArgumentError, match="needs counts of at least 1"):
        spec(channels=0)
    timing = {**spec().timing, "tXYZ": assumed(1, "cycle", "test")}
    del timing["tCL"]
    with pytest.raises(ArgumentError, match=r"those of TIMINGS; missing \['tCL'\], unknown \['tXYZ'\]"):
        DramSpec("odd", assumed(1, "", "test"), 1, 1, 64, 64, assumed(1e9, "Hz", "test"), timing)
    with pytest.raises(ArgumentError, match="timing tCL of DRAM odd is in 'us'; expected 'ns' or 'cycle'"):
        DramSpec(
            "odd",
            assumed(1, "", "t"),
            1,
            1,
            64,
            64,
            assumed(1e9, "Hz", "t"),
            {**spec().timing, "tCL": assumed(1, "us", "t")},
        )
    memory = Dram(spec())
    with pytest.raises(ArgumentError, match="at least 0 bytes, got -1"):
        memory.stream(-1)
    with pytest.raises(ArgumentError, match="unknown kind of stream 'both'; expected one of 'read', 'write'"):
        memory.stream(64, "both")
    with pytest.raises(ArgumentError, match="addresses of at least 0"):
        memory.time([-64])
    with pytest.raises(ArgumentError, match=r"must have one length, got shapes \[2\], \[3\] and \[\]"):
        Requests.of([0, 64], [True] * 3)
    assert memory.stream(0).cycles == memory.time([]).cycles == 0


def test_nanoseconds_become_whole_clocks():
    quantities = {**spec().timing, "tRCD": assumed(13.5, "ns", "test"), "tRP": assumed(15, "ns", "test")}
    of = DramSpec("ns", assumed(1, "", "t"), 1, 1, 64, 64, assumed(1.2e9, "Hz", "t"), quantities)
    assert (of.cycles.tRCD, of.cycles.tRP) == (17, 18)
