"""Machines by name. Each file holds one machine or one family, with the source of every number."""

import importlib
from functools import cache

from ....errors import ArgumentError, unknown
from ..spec import AcceleratorSpec

__all__ = ["PRESETS", "preset"]

_HOMES = {
    "a100": "a100",
    "rtx3090": "rtx3090",
    "t4": "t4",
    "v100": "v100",
    "s4": "s4",
    "s10": "s4",
    "s30": "s4",
    "s40": "s4",
    "sta": "sta",
}
"""The file of each machine. It exports ``SPEC``, or ``SPECS`` by name for a family."""

TWIN = "-dense"

PRESETS: tuple[str, ...] = (*_HOMES, *(f"{name}{TWIN}" for name in _HOMES))
"""The names that `preset` accepts: each machine, and each machine without its selectors."""


@cache
def preset(name: str) -> AcceleratorSpec:
    """Return a machine by name.

    Parameters
    ----------
    name
        One of `PRESETS`. ``"<name>-dense"`` is the same machine without its selectors.

    Raises
    ------
    ArgumentError
        If the machine is unknown; the message suggests the nearest names.

    Examples
    --------
    >>> int(preset("s30").chips), dict(preset("s4-dense").selectors)
    (3, {})
    """
    base = name.removesuffix(TWIN)
    if name not in PRESETS:
        expected = f"one of {', '.join(map(repr, _HOMES))}, or one of these with {TWIN!r} for no selectors"
        raise ArgumentError(unknown("accelerator", name, PRESETS, expected))
    home = importlib.import_module(f".{_HOMES[base]}", __name__)
    specs = getattr(home, "SPECS", None)
    spec: AcceleratorSpec = home.SPEC if specs is None else specs[base]
    return spec.dense() if name != base else spec
