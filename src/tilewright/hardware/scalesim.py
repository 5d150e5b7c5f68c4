"""Compatibility with SCALE-Sim v3: its cycle counts for dense products on a systolic array, and where ours differ.

SCALE-Sim (Samajdar et al., ISPASS 2020; v3: Raj et al., arXiv 2504.15377) keeps one operand of a product in an array of R
rows and C columns with one multiplier per element, and counts how long the others take to pass. With M tokens, N outputs
and K inputs:

====  ================================  =======================  ====================
flow  stays in the array                parts, one after another  cycles of each part
====  ================================  =======================  ====================
os    outputs, M in rows, N in columns  ceil(M/R) ceil(N/C)      K + R + C - 2
ws    weights, K in rows, N in columns  ceil(K/R) ceil(N/C)      R + M + R + C - 2
is    inputs, K in rows, M in columns   ceil(K/R) ceil(M/C)      R + N + R + C - 2
====  ================================  =======================  ====================

It reports the number of the last cycle, counted from 0: one less than the number of cycles. Under "os" the sums never
leave the array, although its paper counts the R cycles that this takes. Both quirks are kept here, so that the numbers
can be compared digit by digit (``python benchmarks/validation/scalesim.py`` runs SCALE-Sim itself).
"""

import math
from typing import Literal, get_args

from ..errors import ArgumentError, unknown
from ..records import Report
from .engines.sta_tile import Array, dense_word, stream

__all__ = ["Flow", "conv_as_product", "explain_difference", "scalesim_cycles"]

Flow = Literal["os", "ws", "is"]
"""What stays in the array: outputs, weights or inputs."""


def scalesim_cycles(M: int, N: int, K: int, *, rows: int, columns: int, flow: Flow) -> int:
    """Return the "Total Cycles" that SCALE-Sim v3 reports for a dense product without stalls.

    Parameters
    ----------
    M, N, K
        Tokens, outputs and inputs.
    rows, columns
        Size of the array, with one multiplier per element.
    flow
        What stays in the array: ``"os"`` outputs, ``"ws"`` weights, ``"is"`` inputs.

    Raises
    ------
    ArgumentError
        If a size is below 1, or the flow is unknown.

    Examples
    --------
    >>> [scalesim_cycles(128, 768, 768, rows=32, columns=32, flow=flow) for flow in ("ws", "os", "is")]
    [127871, 79679, 82751]
    """
    parts, streamed, loaded = _parts(M, N, K, rows, columns, flow)
    return parts * (loaded + streamed + rows + columns - 2) - 1


def conv_as_product(
    height: int, width: int, filter_height: int, filter_width: int, channels: int, filters: int, stride: int = 1
) -> tuple[int, int, int]:
    """Return M, N and K of a convolution as SCALE-Sim sees it: output pixels, filters, weights per filter.

    SCALE-Sim adds no padding, and rounds the output up where the stride does not divide: one pixel more per side than usual.

    Parameters
    ----------
    height, width
        Size of the image in pixels, padding included.
    filter_height, filter_width
        Size of the filters in pixels.
    channels, filters
        Input channels and output channels.
    stride
        Step of the filters in pixels. Default: 1.

    Raises
    ------
    ArgumentError
        If a size is below 1, or the filter is larger than the image.

    Examples
    --------
    >>> conv_as_product(14, 14, 3, 3, 8, 16), conv_as_product(14, 14, 3, 3, 8, 16, stride=2)
    ((144, 16, 72), (49, 16, 72))
    """
    sizes = {
        "height": height,
        "width": width,
        "filter_height": filter_height,
        "filter_width": filter_width,
        "channels": channels,
        "filters": filters,
        "stride": stride,
    }
    _at_least_one(sizes)
    if filter_height > height or filter_width > width:
        raise ArgumentError(
            f"a filter of {filter_height} x {filter_width} does not fit an image of {height} x {width}; SCALE-Sim adds no padding, so "
            "pass the padded size"
        )
    pixels = math.ceil((height - filter_height + stride) / stride) * math.ceil((width - filter_width + stride) / stride)
    return pixels, filters, filter_height * filter_width * channels


def explain_difference(M: int, N: int, K: int, *, rows: int, columns: int, flow: Flow) -> Report:
    """Return where SCALE-Sim's cycles and ours differ, in whole cycles that add up to the difference exactly.

    Ours is the array of `tilewright.hardware.engines.sta_tile` with one multiplier per element: sums move to a second
    register when a part is done and leave while the next part runs, so that filling and draining count once.

    Parameters
    ----------
    M, N, K, rows, columns, flow
        As for `scalesim_cycles`.

    Returns
    -------
    Report
        One row per component: its cycles in SCALE-Sim and in ours, the difference, and the reason. The summary has the
        totals.

    Raises
    ------
    ArgumentError
        As for `scalesim_cycles`.

    Examples
    --------
    >>> report = explain_difference(32, 32, 32, rows=32, columns=32, flow="os")
    >>> [(row["component"], row["difference"]) for row in report.rows if row["difference"]]
    [('draining the sums', 32), ('counting from 0', 1)]
    >>> report.summary["SCALE-Sim"], report.summary["ours"]
    (93, 126)
    """
    parts, streamed, loaded = _parts(M, N, K, rows, columns, flow)
    array = Array(rows, columns, 1, 1, 1)
    tiles = math.ceil(M / rows) * math.ceil(N / columns)
    counters = stream(array, dense_word(array), K, tiles)
    skew = rows + columns - 2
    drain = counters.tail - skew
    components = (
        ("streaming operands", parts * streamed, counters.busy, _STREAM[flow]),
        ("loading what stays", parts * loaded, 0, "ours keeps outputs, which need no loading"),
        ("filling the array", parts * skew, skew, "every part of SCALE-Sim waits for the one before; ours follow on"),
        (
            "draining the sums",
            0,
            drain,
            "SCALE-Sim does not count it"
            if flow == "os"
            else "in SCALE-Sim sums leave at the bottom as they come; ours leave by their columns",
        ),
        ("waiting for the sums before", 0, counters.drained, "a part with K below R ends before the columns are free"),
        ("counting from 0", -1, 0, "SCALE-Sim reports the last cycle's number"),
    )
    rows_of = tuple(
        {"component": name, "SCALE-Sim": before, "ours": after, "difference": after - before, "why": why}
        for name, before, after, why in components
    )
    reported = scalesim_cycles(M, N, K, rows=rows, columns=columns, flow=flow)
    summary: dict[str, object] = {
        "SCALE-Sim": reported,
        "ours": counters.total,
        "difference": counters.total - reported,
        "parts": parts,
    }
    if flow == "os":
        summary["SCALE-Sim with the drain of its paper"] = reported + parts * rows
    return Report("difference", rows_of, summary)


_STREAM = {
    "os": "the same: K cycles for each tile of outputs",
    "ws": "M tokens pass each tile of weights, where ours pass K inputs by each tile of outputs",
    "is": "N outputs pass each tile of inputs, where ours pass K inputs by each tile of outputs",
}


def _parts(M: int, N: int, K: int, rows: int, columns: int, flow: str) -> tuple[int, int, int]:
    """Return the number of parts, and the cycles of each part for streaming and for loading what stays."""
    _at_least_one({"M": M, "N": N, "K": K, "rows": rows, "columns": columns})
    if flow not in get_args(Flow):
        expected = "'os' (outputs stay in the array), 'ws' (weights) or 'is' (inputs)"
        raise ArgumentError(unknown("flow", flow, get_args(Flow), expected))
    down, across, streamed = {"os": (M, N, K), "ws": (K, N, M), "is": (K, M, N)}[flow]
    return math.ceil(down / rows) * math.ceil(across / columns), streamed, 0 if flow == "os" else rows


def _at_least_one(sizes: dict[str, int]) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ArgumentError(f"{name} is {size}; it must be a whole number of at least 1")
