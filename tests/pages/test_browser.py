"""The report in a real browser: a silent console, the records' numbers on the page, a layout that fits a phone, and clicks that work."""

import html
import json
import re
import shutil
import subprocess

import pytest

from tilewright.hardware import compare
from tilewright.pages import render_report, simulation_page, wording

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no chromium, chromium-browser or google-chrome on this machine"
)

POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')


@pytest.fixture(scope="module")
def page(sample_records, sample_arguments):
    return render_report(sample_records, **sample_arguments)


@pytest.fixture(scope="module")
def simulated():
    return simulation_page(compare("bert-base", ["s4", "a100"], pattern="bank64@16x"), command="tilewright simulate")


@pytest.fixture
def browse(tmp_path):
    """Open a page without network access; return its document after scripts ran, and its console output."""

    def run(text, *options, **files):
        for name, content in files.items():
            (tmp_path / f"{name}.html").write_text(content)
        path = tmp_path / "page.html"
        path.write_text(text)
        words = [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-extensions"),
            *(
                "--host-resolver-rules=MAP * ~NOTFOUND",
                "--proxy-server=direct://",
                f"--user-data-dir={tmp_path / 'profile'}",
            ),
            *("--enable-logging=stderr", "--v=0", "--virtual-time-budget=4000", "--window-size=1400,900", *options),
            *("--dump-dom", path.as_uri()),
        ]
        done = subprocess.run(words, capture_output=True, text=True, timeout=90, check=True)
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return run


def with_script(page, script):
    """Return a copy of the page with a test script, and without the policy that would block it."""
    opened, count = POLICY.subn("", page)
    assert count == 1
    return opened.replace("</body>", f"<script>{script}</script></body>")


def answer(document):
    """Return the JSON that a test script left in the title."""
    return json.loads(html.unescape(re.search(r"<title>(.*?)</title>", document, re.DOTALL)[1]))


def test_the_console_stays_silent_and_the_numbers_appear(browse, page, sample_records):
    document, console = browse(page)
    assert console == []
    text = html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", document)))
    for record in sample_records:
        if record.kind == "latency":
            assert wording.seconds(record.median) in text
        if record.kind == "size":
            assert wording.size(record.median) in text
            assert f"{record.median:,.0f}" in text
        if record.kind == "layer":
            assert record.name in text
            assert record.extra["reason"] in text
        if record.kind == "kernel":
            assert wording.times(record.extra["ratio"]) in text
    for number in ("94.2 %", "0.559", "0.526", "24 of 24 layers", "at most 0.56"):
        assert number in text
    assert "tw8@50%" in text


@pytest.mark.parametrize(
    "addition",
    [
        "<img src='https://example.invalid/pixel.png'>",
        "<script>alert(1)</script>",
        "<script src='https://example.invalid/code.js'></script>",
        "<link rel=stylesheet href='https://example.invalid/style.css'>",
    ],
)
def test_the_page_refuses_what_comes_from_outside_and_the_console_would_tell(browse, page, addition):
    _, console = browse(page.replace("</main>", addition + "</main>"))
    assert len(console) == 1
    assert "Content Security Policy" in console[0]


def test_an_error_in_a_script_would_be_seen(browse, page):
    _, console = browse(with_script(page, "console.warn('careful'); throw new Error('broken on purpose')"))
    assert [word in line for word, line in zip(("careful", "broken on purpose"), console, strict=True)] == [True, True]


MEASURE = """addEventListener("load", () => {
  for (const d of document.querySelectorAll("details")) d.open = true;
  const root = document.documentElement, boxes = [...document.querySelectorAll(".scroll")];
  const clipped = [...document.querySelectorAll("main *")].filter((e) => {
    if (e.closest(".scroll, svg, pre, .skip, .canvas") || e.matches("caption")) return false;
    const box = e.getBoundingClientRect();
    return box.width > 0 && (box.right > innerWidth + 0.5 || box.left < -0.5);
  }).map((e) => `${e.tagName}.${e.className}`);
  const small = [...document.querySelectorAll("main p, main li, main dd, main dt, main td, main .xaxis span, main .yaxis span")]
    .filter((e) => e.textContent.trim() && parseFloat(getComputedStyle(e).fontSize) < 12).length;
  const reach = boxes.filter((e) => e.scrollWidth > e.clientWidth && getComputedStyle(e).overflowX !== "auto").length;
  const cut = boxes.filter((e) => e.matches(".stack") && e.scrollWidth > e.clientWidth).map((e) => e.ariaLabel);
  parent.postMessage({ inner: innerWidth, scroll: root.scrollWidth, tables: boxes.length, clipped, small, reach, cut }, "*");
});"""
FRAME = """<!doctype html><title></title><script>
addEventListener("message", (e) => { document.title = JSON.stringify(e.data); });
</script><iframe src="framed.html" style="width:WIDTHpx;height:800px;border:0"></iframe>"""


@pytest.mark.parametrize("addition", ["", "<div style='width:1600px'>too wide</div>"])
@pytest.mark.parametrize("width", [390, 768, 1280])
@pytest.mark.parametrize("which", ["report", "simulated"])
def test_no_width_needs_sideways_scrolling_or_clips(browse, page, simulated, which, width, addition):
    """Use a frame, since a window cannot be made as narrow as a phone; every table is open."""
    text = {"report": page, "simulated": simulated}[which]
    framed = with_script(text.replace("</main>", addition + "</main>"), MEASURE)
    document, _ = browse(FRAME.replace("WIDTH", str(width)), framed=framed)
    seen = answer(document)
    assert seen["inner"] == width
    assert seen["tables"] >= 7
    assert seen["cut"] == []
    assert seen["small"] == seen["reach"] == 0
    assert (seen["scroll"] <= width) == (not addition)
    assert bool(seen["clipped"]) == bool(addition), seen["clipped"]


def test_a_simulated_page_is_silent_in_both_colours(browse, simulated):
    grounds = set()
    for preferred in "10":
        document, console = browse(
            with_script(simulated, "document.title = JSON.stringify(getComputedStyle(document.body).backgroundColor)"),
            f"--blink-settings=preferredColorScheme={preferred}",
        )
        assert console == []
        grounds.add(answer(document))
    assert grounds == {"rgb(251, 251, 249)", "rgb(20, 24, 26)"}


COPY = """
const button = document.querySelector(".copy");
const shown = !button.hidden;
button.click();
setTimeout(() => { document.title = JSON.stringify([shown, button.textContent, getSelection().toString()]); }, 300);
"""


def test_the_code_to_use_the_result_can_be_copied(browse, page, sample_arguments):
    document, console = browse(with_script(page, COPY))
    assert console == []
    shown, words, selected = answer(document)
    assert shown
    assert words in ("Copied", "Selected")
    if words == "Selected":
        assert selected.strip() == sample_arguments["about"].use.strip()


CLICK = """
const ground = () => getComputedStyle(document.body).backgroundColor;
const theme = document.getElementById("theme");
const colours = [ground()]; theme.click(); colours.push(ground()); theme.click(); colours.push(ground());
const table = document.querySelector("#layers table");
const head = [...table.tHead.rows[0].cells].findIndex((c) => c.textContent === "vs dense");
const keys = () => [...table.tBodies[0].rows].map((r) => r.cells[head].dataset.key ?? null).map((k) => k && Number(k));
const press = table.tHead.rows[0].cells[head].querySelector("button");
press.click(); const up = keys(); press.click(); const down = keys();
const canvas = document.querySelector("[data-curves]"), box = canvas.getBoundingClientRect();
canvas.dispatchEvent(new PointerEvent("pointermove", { clientX: box.left, clientY: box.top }));
const readout = canvas.closest("figure").querySelector("output").textContent;
document.title = JSON.stringify({ colours, up, down, readout, sort: table.tHead.rows[0].cells[head].getAttribute("aria-sort") });
"""


@pytest.mark.parametrize(("preferred", "ground"), [("1", "rgb(251, 251, 249)"), ("0", "rgb(20, 24, 26)")])
def test_colours_follow_the_system_and_the_button_and_tables_sort(browse, page, sample_records, preferred, ground):
    document, console = browse(with_script(page, CLICK), f"--blink-settings=preferredColorScheme={preferred}")
    assert console == []
    state = answer(document)
    assert state["colours"][0] == state["colours"][2] == ground
    assert state["colours"][1] != ground
    ratios = sorted(r.extra["ratio"] for r in sample_records if r.kind == "layer" and r.checked)
    assert state["up"] == pytest.approx([*ratios, None])
    assert state["down"] == pytest.approx([*ratios[::-1], None])
    assert state["sort"] == "descending"
    first = next(r for r in sample_records if r.kind == "loss")
    mean = sum(first.extra["loss"][:2]) / 2
    assert state["readout"].startswith(f"distillation, seed 0: {wording.digits(mean, 4)} at optimizer step 1.5")
