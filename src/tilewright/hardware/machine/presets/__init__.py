"""Machines by name. Each file here holds one machine, or one family, with the source of every number."""

import difflib
import importlib
from functools import cache

from ....errors import ArgumentError
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
"""File of each machine. It exports ``SPEC``, or ``SPECS`` by name where it holds a family."""

TWIN = "-dense"

PRESETS: tuple[str, ...] = (*_HOMES, *(f"{name}{TWIN}" for name in _HOMES))
"""Names that `preset` knows: each machine, and each without its selectors."""


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
        If there is no such machine; the message names the nearest.

    Examples
    --------
    >>> int(preset("s30").chips), dict(preset("s4-dense").selectors)
    (3, {})
    """
    base = name.removesuffix(TWIN)
    if name not in PRESETS:
        near = difflib.get_close_matches(str(name).lower(), _HOMES, n=3, cutoff=0.4)
        nearest = f"the nearest are {' and '.join(near)}" if near else f"there are {', '.join(_HOMES)}"
        raise ArgumentError(f"there is no accelerator preset {name!r}; {nearest}, each also as <name>{TWIN}")
    home = importlib.import_module(f".{_HOMES[base]}", __name__)
    specs = getattr(home, "SPECS", None)
    spec: AcceleratorSpec = home.SPEC if specs is None else specs[base]
    return spec.dense() if name != base else spec
