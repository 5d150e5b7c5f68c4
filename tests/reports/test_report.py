"""The report as text: what it says, what it leaves out, and that it trusts nobody."""

import dataclasses
import errno
import os
import re
import stat
from html.parser import HTMLParser

import numpy as np
import pytest

from tilewright.errors import ArgumentError
from tilewright.reports import Check, Record, headline, html, render_report, sections, write_report


def section_ids(page):
    return re.findall(r'<section id="(\w+)"', page)


def speed(engine, model, samples, **inputs):
    checked = inputs.pop("checked", True)
    inputs = {"engine": engine, "model": model, "sentences": 8, "tokens": 64, "threads": 1, **inputs}
    return Record.measure("latency", "encode", samples, "s", inputs=inputs, checked=checked)


def test_every_section_appears_with_its_records(sample_records, sample_arguments):
    page = render_report(sample_records, **sample_arguments)
    expected = ["checks", "quality", "latency", "size", "recovery", "layers", "masks", "kernels", "environment"]
    assert section_ids(page) == expected


def test_a_section_without_records_is_absent(sample_records):
    kinds = {
        "quality": "quality",
        "latency": "latency",
        "size": "size",
        "layer": "layers",
        "loss": "recovery",
        "kernel": "kernels",
    }
    for kind, section in kinds.items():
        page = render_report([r for r in sample_records if r.kind != kind], title="t")
        assert sorted(section_ids(page)) == sorted({*kinds.values(), "environment"} - {section})


def test_no_records_make_an_honest_page():
    page = render_report([], title="Nothing yet", summary="No stage has run.")
    assert section_ids(page) == ["environment"]
    assert "<h1>No stage has run.</h1>" in page


def test_the_headline_is_made_of_records(sample_records):
    sentence = headline.headline(sample_records)
    assert sentence == (
        "The packed model keeps 94.2 % of the dense MRR, encodes 32 sentences at 1.62\N{MULTIPLICATION SIGN} and 1 sentence at "
        "1.21\N{MULTIPLICATION SIGN} the speed of the best dense engine, and takes 74.6 % of the dense size on disk."
    )


def test_the_headline_shrinks_with_the_records(sample_records):
    by_kind = {kind: [r for r in sample_records if r.kind == kind] for kind in ("quality", "latency", "size", "layer")}
    assert headline.headline(by_kind["size"]) == "The sparse model takes 74.6 % of the dense size on disk."
    both = headline.headline(by_kind["latency"] + by_kind["size"])
    assert both.startswith("The sparse model encodes 32 sentences at 1.62")
    assert both.endswith("and takes 74.6 % of the dense size on disk.")
    assert headline.headline(by_kind["layer"]) is None
    assert headline.figures(by_kind["layer"]) == ()


def test_a_slower_model_is_called_slower():
    records = [speed("torch", "dense", [0.010]), speed("tilewright", "sparse", [0.020])]
    assert (
        "encodes 8 sentences at 0.50\N{MULTIPLICATION SIGN} the speed of the best dense engine."
        in headline.headline(records)
    )


def test_a_loss_at_one_batch_is_told_beside_a_win_at_another():
    records = [
        speed("torch", "dense", [0.010], sentences=32),
        speed("tilewright", "sparse", [0.005], sentences=32),
        speed("torch", "dense", [0.001], sentences=1),
        speed("tilewright", "sparse", [0.002], sentences=1),
    ]
    sentence = headline.headline(records)
    assert (
        "32 sentences at 2.00\N{MULTIPLICATION SIGN} and 1 sentence at 0.50\N{MULTIPLICATION SIGN} the speed"
        in sentence
    )
    tones = {(g.title, b.tone) for g in sections.latency(records, "encode").groups for b in g.bars}
    assert ("1 sentence, 64 tokens, 1 thread", "behind") in tones
    assert ("32 sentences, 64 tokens, 1 thread", "accent") in tones


def test_speed_is_against_the_best_dense_engine_of_the_same_batch():
    records = [
        speed("torch", "dense", [0.012, 0.010, 0.011]),
        speed("openvino", "dense", [0.008, 0.009, 0.0085]),
        speed("tilewright", "sparse", [0.004, 0.0045, 0.00425]),
        speed("torch", "dense", [0.001], sentences=1),  # another batch never counts
    ]
    chart = sections.latency(records, "encode")
    first = chart.groups[0]
    assert [(b.label, b.text, b.note) for b in first.bars] == [
        ("Tilewright, sparse", "2.00\N{MULTIPLICATION SIGN}", "4.25 ms"),
        ("OpenVINO, dense", "1.00\N{MULTIPLICATION SIGN}", "8.50 ms"),
        ("PyTorch, dense", "0.77\N{MULTIPLICATION SIGN}", "11.0 ms"),
    ]
    assert chart.table.rows[0][4].text == "10.0 ms to 12.0 ms"


def test_a_batch_without_a_dense_peer_claims_no_ratio():
    chart = sections.latency([speed("tilewright", "sparse", [0.004])], "encode")
    assert chart.groups == ()
    assert chart.table.rows[0][2].text == "no dense peer"
    assert headline.headline([speed("tilewright", "sparse", [0.004])]) is None


def test_an_unchecked_timing_is_left_out_and_counted():
    records = [speed("torch", "dense", [0.0123]), speed("tilewright", "sparse", [0.00456], checked=False)]
    page = render_report(records, title="t")
    assert "1 timing left out of the charts" in page
    shown = page.split('<section id="environment">')[0]
    assert "4.56 ms" not in shown
    assert "12.3 ms" in shown
    layer = Record.measure(
        "layer", "fc", 7.77, "ratio", extra={"density": 0.5, "kernel": "k", "reason": "r", "ratio": 7.77}
    )
    assert "7.77\N{MULTIPLICATION SIGN}" not in render_report([layer], title="t")
    assert "vs dense" not in render_report([layer], title="t")
    assert "7.77\N{MULTIPLICATION SIGN}" in render_report([dataclasses.replace(layer, checked=True)], title="t")


def test_seeds_are_drawn_as_their_median_with_their_spread(sample_records):
    chart = sections.quality(sample_records)
    recovered = next(b for b in chart.groups[0].bars if b.label == "Recovered")
    assert recovered.value == pytest.approx(0.5590 * 0.9421)
    assert (recovered.low, recovered.high) == pytest.approx((0.5590 * 0.9341, 0.5590 * 0.9501))
    assert "medians over up to 3 seeds" in chart.caption
    assert [g.title for g in chart.groups] == ["MRR", "recall@1", "cosine to dense"]
    assert [b.label for b in chart.groups[0].bars] == ["Dense", "Pruned", "Recovered", "Packed"]


def test_several_machines_are_named():
    one = Record.measure("size", "disk", 1, "bytes", inputs={"model": "dense"})
    other = dataclasses.replace(one, machine={**one.machine, "cpu": "Another CPU"})
    page = render_report([one, other], title="t")
    assert "come from 2 different machines" in page
    assert "Another CPU" in page
    assert "different machines" not in render_report([one, one], title="t")


def test_checks_tell_pass_from_fail():
    page = render_report([], title="t", checks=[Check("A", 0.95, "at least 0.93", True), Check("B", "none", 3, False)])
    items = re.findall(r'<li class="(\w+)"><span class="verdict">(\w+)</span>.*?"what">(\w)</span>', page)
    assert items == [("pass", "Pass", "A"), ("fail", "Fail", "B")]


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


def test_hostile_text_stays_text():
    evil = "\"><script>alert(1)</script><img src=x onerror=alert(1)>'</style></pre>{{ 7*7 }}"
    record = Record.measure(
        "layer", evil, 1, evil, inputs={"pattern": evil, "shape": evil}, extra={"kernel": evil, "reason": evil}
    )
    more = [Record.measure(kind, evil, 1, evil, inputs={"model": evil, "engine": evil}) for kind in ("quality", "size")]
    loss = Record.measure("loss", evil, 1, "", extra={"steps": [1, 2], "loss": [2, 1]})
    timing = Record.measure("latency", evil, 1, "s", inputs={"model": "dense", "engine": evil}, checked=True)
    kernel = Record.measure(
        "kernel", evil, 1, "s", inputs={"op": evil}, checked=True, extra={"ratio": 2.0, "dense_engine": evil}
    )
    page = render_report(
        [record, *more, loss, timing, kernel],
        title=evil,
        summary=evil,
        recipe={evil: evil},
        masks={evil: np.ones((2, 2), bool)},
        checks=[Check(evil, evil, evil, False)],
    )
    seen = _Tags()
    seen.feed(page)
    assert [tag for tag, _ in seen.tags].count("script") == 1
    assert all(a.get("src", "data:").startswith("data:") for _, a in seen.tags)
    assert not [name for _, a in seen.tags for name in a if name.startswith("on")]
    assert "{{ 7*7 }}" in page


def test_the_page_refers_to_nothing_outside_itself(sample_records, sample_arguments):
    page = render_report(sample_records, **sample_arguments)
    seen = _Tags()
    seen.feed(page)
    addresses = [
        a[name] for _, a in seen.tags for name in ("src", "href", "action", "data", "poster", "srcset") if name in a
    ]
    assert addresses
    assert all(address.startswith("data:") for address in addresses)
    assert "@import" not in page
    assert not re.search(r"url\((?!['\"]?data:)", page)
    assert len(page) < 400_000


def test_only_twelve_masks_are_drawn():
    masks = {f"layer.{i}.weight": np.eye(4, dtype=bool) for i in range(40)}
    page = render_report([], title="t", masks=masks)
    assert page.count('<figure class="mask">') == 12
    assert "12 of 40 weights" in page
    assert {"layer.0.weight", "layer.39.weight"} <= set(re.findall(r"layer\.\d+\.weight", page))


def test_a_mask_that_is_none_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ArgumentError, match="boolean matrix"):
        write_report(tmp_path / "report.html", [], title="t", masks={"w": np.ones((2, 2))})
    assert os.listdir(tmp_path) == []


def test_write_replaces_the_file_whole(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(path, [], title="The new one")
    assert path.read_text() == render_report([], title="The new one")
    assert os.listdir(tmp_path) == ["report.html"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_a_full_disk_keeps_the_old_report(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(html.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(path, [], title="new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.html"]


def test_curves_keep_their_ends_and_choose_their_axis(sample_records):
    chart = sections.recovery(sample_records)
    assert "logarithmic" in chart.caption
    assert "at most 400 points" in chart.caption
    assert len(chart.curves) == 2
    first = sample_records[[r.kind for r in sample_records].index("loss")]
    texts = [row[2].text for row in chart.table.rows if row[0].text.endswith("seed 0")]
    assert (texts[0], texts[-1]) == (f"{first.extra['loss'][0]:.4g}", f"{first.extra['loss'][-1]:.4g}")
    flat = Record.measure("loss", "r", 1.0, "", extra={"steps": [5], "loss": [1.0]})
    alone = sections.recovery([flat])
    assert "logarithmic" not in alone.caption
    assert len(alone.table.rows) == 1
    assert alone.curves[0].points == "50.00,0.00"
