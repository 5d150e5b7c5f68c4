"""The report as text: what it says, what it omits, and that it escapes everything."""

import dataclasses
import errno
import json
import math
import os
import re
import stat
from html.parser import HTMLParser

import numpy as np
import pytest

from tilewright.errors import ArgumentError
from tilewright.pages import Check, headline, html, listings, quality, render_report, sections, wording, write_report
from tilewright.records import Record


def section_ids(page):
    return re.findall(r'<section id="(\w+)"', page)


def speed(engine, model, samples, **inputs):
    checked = inputs.pop("checked", True)
    inputs = {"engine": engine, "model": model, "sentences": 8, "tokens": 64, "threads": 1, **inputs}
    return Record.measure("latency", "encode", samples, "s", inputs=inputs, checked=checked)


def test_every_section_appears_with_its_records(sample_records, sample_arguments):
    page = render_report(sample_records, **sample_arguments)
    expected = ["checks", "quality", "recovery", "latency", "size", "layers", "masks", "kernels", "use", "environment"]
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
        kept = [r for r in sample_records if r.kind != kind and (kind, r.kind) != ("loss", "curve")]
        page = render_report(kept, title="t")
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
        speed("openvino", "dense", [0.008, 0.009, 0.0085], precision="bfloat16"),
        speed("tilewright", "sparse", [0.004, 0.0045, 0.00425], precision="float32"),
        speed("torch", "dense", [0.001], sentences=1),  # another batch is ignored
    ]
    chart = sections.latency(records, "encode")
    first = chart.groups[0]
    assert [(b.label, b.text, b.note) for b in first.bars] == [
        ("Tilewright, sparse (float32)", "2.00\N{MULTIPLICATION SIGN}", "4.25 ms (4.00 ms to 4.50 ms)"),
        ("OpenVINO, dense (bfloat16)", "1.00\N{MULTIPLICATION SIGN}", "8.50 ms (8.00 ms to 9.00 ms)"),
        ("PyTorch, dense (precision not recorded)", "0.77\N{MULTIPLICATION SIGN}", "11.0 ms (10.0 ms to 12.0 ms)"),
    ]
    assert [cell.text for cell in chart.table.rows[0][4:7]] == ["10.0 ms", "11.0 ms", "12.0 ms"]


def test_a_batch_without_a_dense_peer_claims_no_ratio():
    chart = sections.latency([speed("tilewright", "sparse", [0.004])], "encode")
    assert chart.groups == ()
    assert chart.table.rows[0][3].text == "no dense peer"
    assert headline.headline([speed("tilewright", "sparse", [0.004])]) is None


def test_an_unchecked_timing_is_left_out_and_counted():
    records = [speed("torch", "dense", [0.0123]), speed("tilewright", "sparse", [0.00456], checked=False)]
    page = render_report(records, title="t")
    assert "1 timing omitted from the charts" in page
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
    chart = quality.quality(sample_records)
    recovered = next(b for b in chart.groups[0].bars if b.label == "Recovered")
    assert recovered.value == pytest.approx(0.5590 * 0.9421)
    assert (recovered.low, recovered.high) == pytest.approx((0.5590 * 0.9341, 0.5590 * 0.9501))
    assert "medians over up to 3 seeds" in chart.caption
    assert [g.title for g in chart.groups] == ["MRR", "recall@1", "cosine to dense"]
    assert [b.label for b in chart.groups[0].bars] == ["Dense", "Pruned", "Recovered", "Packed"]


def test_several_machines_are_named():
    first = Record.measure("size", "disk", 1, "bytes", inputs={"model": "dense"})
    other = dataclasses.replace(first, machine={**first.machine, "cpu": "Another CPU"})
    page = render_report([first, other], title="t")
    assert "come from 2 different machines" in page
    assert "Another CPU" in page
    assert "different machines" not in render_report([first, first], title="t")


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
    assert all(address.startswith(("data:", "#")) for address in addresses)
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
    loss = sections.recovery(sample_records)[0]
    assert "logarithmic" in loss.caption
    assert "at most 400 points" in loss.caption
    assert len(loss.curves) == 2
    first = sample_records[[r.kind for r in sample_records].index("loss")]
    texts = [row[2].text for row in loss.table.rows if row[0].text.endswith("seed 0")]
    assert (texts[0], texts[-1]) == tuple(wording.digits(first.extra["loss"][i], 4) for i in (0, -1))
    flat = Record.measure("loss", "r", 1.0, "", extra={"steps": [5], "loss": [1.0]})
    (alone,) = sections.recovery([flat])
    assert "logarithmic" not in alone.caption
    assert len(alone.table.rows) == 1
    assert alone.curves[0].points == "50.00,0.00"


def test_quality_on_the_way_names_its_split_and_stands_beside_dense(sample_records):
    _, reached = sections.recovery(sample_records)
    assert (reached.x_title, reached.y_title) == ("optimizer step", "MRR on 100 validation pairs")
    assert reached.caption.endswith("higher is better.")
    curves = [r for r in sample_records if r.kind == "curve"]
    assert [mark.text for mark in reached.marks] == [f"dense: {wording.digits(curves[0].extra['dense'], 4)}"]
    for record, curve in zip(curves, reached.curves, strict=True):
        assert [value for _, _, value in json.loads(curve.readout)] == [
            wording.digits(value, 4) for value in record.extra["values"]
        ]


def resampled(ours, theirs, of_mean=lambda mean: mean, weights=None):
    """Return the ends of a paired bootstrap of ours over theirs, drawn one item at a time."""
    rng = np.random.default_rng(123)
    weights = np.ones(len(ours)) if weights is None else np.asarray(weights)
    shares = []
    for _ in range(4000):
        picked = [int(rng.integers(len(ours))) for _ in ours]
        total = sum(weights[i] for i in picked)
        means = [sum(weights[i] * values[i] for i in picked) / total for values in (ours, theirs)]
        shares.append(of_mean(means[0]) / of_mean(means[1]))
    return np.percentile(shares, [2.5, 97.5])


@pytest.mark.parametrize(
    ("of_mean", "weighted", "higher"), [(None, False, True), (math.exp, False, False), (None, True, True)]
)
def test_an_interval_is_that_of_a_paired_bootstrap(of_mean, weighted, higher):
    rng = np.random.default_rng(5)
    theirs = rng.choice([1.0, 0.5, 0.25, 0.1], 60)
    ours = theirs * rng.choice([1.0, 0.7], 60)
    weights = rng.integers(1, 9, 60).tolist() if weighted else None
    records = []
    for model, values in (("dense", theirs), ("packed", ours)):
        mean = np.average(values, weights=weights)
        extra = {"each": values, "higher is better": higher} | ({"weights": weights} if weighted else {})
        value = of_mean(mean) if of_mean else mean
        records.append(Record.measure("quality", "m", value, "1", inputs={"model": model, "pairs": 60}, extra=extra))
    interval = quality.quality_stages(records, "m")[1].interval
    first, second = (ours, theirs) if higher else (theirs, ours)
    expected = resampled(first, second, of_mean or (lambda mean: mean), weights)
    assert (interval.low, interval.high) == pytest.approx(tuple(expected), abs=0.012)
    assert interval.items == 60
    page = html_of(records)
    assert f"({wording.share_range(interval.low, interval.high)}) of dense" in page
    assert "paired bootstrap over the 60 held-out pairs" in page
    assert "One seed: the variation between seeds is unknown." in page


def html_of(records, **more):
    return render_report(records, title="t", **more)


@pytest.mark.parametrize(
    "other",
    [
        {"each": [1.0] * 9},
        {"each": []},
        {},
        {"each": [0.2, 0.9] * 5},  # values that do not lead to the recorded number
    ],
)
def test_no_interval_is_drawn_over_other_items(other):
    dense = Record.measure("quality", "m", 0.9, "1", inputs={"model": "dense"}, extra={"each": [0.9] * 10})
    pruned = Record.measure("quality", "m", 0.8, "1", inputs={"model": "pruned"}, extra={"each": [0.8] * 10})
    assert quality.quality_stages([dense, pruned], "m")[1].interval is not None
    for records in ([dataclasses.replace(dense, extra=other), pruned],):
        assert quality.quality_stages(records, "m")[1].interval is None
    elsewhere = dataclasses.replace(dense, inputs={"model": "dense", "corpus": "another"})
    assert quality.quality_stages([elsewhere, pruned], "m")[1].interval is None


def test_layers_of_a_kind_share_a_row_and_a_reason(sample_records):
    groups = listings.layer_groups(sample_records)
    layers = [r for r in sample_records if r.kind == "layer"]
    assert sorted(name for group in groups for name in group.names) == sorted(r.name for r in layers)
    first = groups[0]
    assert (len(first.names), first.shape) == (11, "384 \N{MULTIPLICATION SIGN} 384")
    assert first.kinds == tuple(f"encoder.layer.*.attention.{part}.dense.weight" for part in ("output", "query"))
    assert first.reason in {r.extra["reason"] for r in layers}
    assert listings.pruned_density(sample_records).startswith("1/2 of the weights kept in 23 of 25 layers")
    page = html_of(sample_records)
    assert page.index(first.reason) < page.index("All 25 layers, one per row")


class _Outline(HTMLParser):
    """Collect headings, links in the table of contents, and table cells."""

    def __init__(self):
        super().__init__()
        self.levels, self.links, self.cells, self.sections = [], [], [], []
        self._open = []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if re.fullmatch(r"h[1-6]", tag):
            self.levels.append(int(tag[1]))
        if tag == "a" and attributes.get("class") is None:
            self.links.append(attributes["href"])
        if tag == "section":
            self.sections.append("#" + attributes["id"])
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if {"td", "th", "dd", "li"} & set(self._open) and "pre" not in self._open:
            self.cells.append(data)


def outline(page):
    seen = _Outline()
    seen.feed(page)
    return seen


def test_headings_form_an_outline_and_every_section_is_in_the_contents(sample_records, sample_arguments):
    for page in (html_of([]), html_of(sample_records), render_report(sample_records, **sample_arguments)):
        seen = outline(page)
        assert seen.levels[0] == 1
        assert seen.levels.count(1) == 1
        assert all(later - earlier <= 1 for earlier, later in zip(seen.levels, seen.levels[1:], strict=False))
        assert seen.links == seen.sections


def test_no_number_is_written_as_a_power(sample_records, sample_arguments):
    tiny = Record.measure("size", "disk", 3.2e13, "bytes", inputs={"model": "dense"})
    small = Record.measure("loss", "r", 1e-7, "", extra={"steps": [1, 1e7], "loss": [3e-7, 1e-9]})
    page = render_report([*sample_records, tiny, small], **sample_arguments)
    powers = [cell for cell in outline(page).cells if re.search(r"\d[eE][+-]?\d", cell)]
    assert powers == []


def test_a_report_opens_with_what_it_is_about(sample_records, sample_arguments):
    page = render_report(sample_records, **sample_arguments)
    top = page[: page.index("<section")]
    for text in (
        "all-MiniLM-L6-v2 (BertModel, 22.7 million weights)",
        "1/2 of the weights kept",
        "tw8@50%: each tile of 8 outputs",
        "Retrieval of second paragraphs",
        "MRR, over 500 held-out pairs. Mean reciprocal rank",
        "5 min 12 s",
        "28 November 2026",
        "<code>tilewright run recipe.yaml</code>",
        "1 of 4 requirements not met",
    ):
        assert text in top
    assert "tilewright.load(&#34;model&#34;)" in page


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("2:4", "2 of every 4 neighbouring inputs kept"),
        ("32:64x4", "positions shared by 4 neighbouring outputs"),
        ("bank64@4x", "16 of every 64"),
        ("tw8@50%", "each tile of 8 outputs keeps its own inputs"),
        ("tew64@75%+5%", "the best single weights are restored"),
        ("tvw64@75%", "with n:m inside"),
        ("block4x8@50%", "blocks of 4 \N{MULTIPLICATION SIGN} 8 weights"),
        ("any@90%", "single weights kept at any position"),
        ("no pattern", "no pattern"),
    ],
)
def test_patterns_say_what_they_mean(pattern, words):
    assert wording.pattern_words(pattern).startswith(pattern)
    assert words in wording.pattern_words(pattern)
