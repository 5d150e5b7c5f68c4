"""The figure of a sensitivity scan: the increase of the loss with the sparsity of each layer, one line per layer."""

import re
from typing import TYPE_CHECKING

from ..errors import ArgumentError
from .figures import Series, line_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..pruning import Scan

__all__ = ["sensitivity_figure"]

_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")


def sensitivity_figure(scan: "Scan") -> "Figure":
    """Draw a sensitivity scan: one panel per kind of layer, one line per layer.

    Layers are of one kind if their names differ only in numbers, such as ``encoder.layer.0.attention.query`` and
    ``encoder.layer.5.attention.query``. If all kinds differ, all lines share one panel. Panels share the scale of the loss.

    Parameters
    ----------
    scan
        From `tilewright.pruning.sensitivity_scan`.

    Returns
    -------
    matplotlib.figure.Figure
        The figure, for `save_figure`.

    Raises
    ------
    ArgumentError
        If the scan is empty.
    NotSupportedError
        If matplotlib is not installed.
    """
    if not scan.points:
        raise ArgumentError("the scan has no points to draw; scan a model with weights that can take the patterns")
    lines: dict[str, list[tuple[float, float]]] = {}
    for point, rise in scan.measured():
        if point.density is not None:
            lines.setdefault(point.name.removesuffix(".weight"), []).append((1 - point.density, rise))
    return line_figure(_panels(lines), "sparsity of the layer", "rise of the loss", columns=3)


def _panels(lines: dict[str, list[tuple[float, float]]]) -> dict[str, list[Series]]:
    kinds: dict[str, dict[str, str]] = {}
    for name in lines:
        kinds.setdefault(_NUMBER.sub("*", name), {})[name] = ".".join(_NUMBER.findall(name)) or name
    if all(len(names) == 1 for names in kinds.values()):
        kinds = {"one layer pruned at a time": {name: name for name in lines}}
    return {
        kind: [_series(label, lines[name]) for name, label in names.items()] for kind, names in sorted(kinds.items())
    }


def _series(label: str, points: list[tuple[float, float]]) -> Series:
    ordered = sorted(points)
    return Series(label, [x for x, _ in ordered], [y for _, y in ordered])
