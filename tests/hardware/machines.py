"""A small machine with round numbers, for tests that depend on no real machine."""

from tilewright.hardware import AcceleratorSpec, Memory, assumed, derived, sourced


def quantity(value, unit="", **interval):
    return sourced(value, unit, "made up for a test", **interval)


def machine(**changes):
    """Two cores of 4 x 8 lanes at 1 GHz, 2:4 and 1:4, 16 GB/s of DRAM, with four uncertain numbers."""
    fields = {
        "name": "toy",
        "engine": "sta",
        "about": "A machine for tests.",
        "chips": quantity(1),
        "cores": quantity(2),
        "rows": quantity(4),
        "columns": quantity(8),
        "clock": assumed(1e9, "Hz", "round", low=0.8e9, high=1.25e9),
        "macs": {"int8": quantity(32, "MAC/cycle"), "float16": quantity(16, "MAC/cycle")},
        "selectors": {"int8": ((2, 4), (1, 4)), "float16": ((2, 4),)},
        "tiles": ((16, 16, 32),),
        "memories": (
            Memory("shared", quantity(1 << 16, "byte"), quantity(64e9, "byte/s"), instances=2),
            Memory(
                "dram",
                quantity(1 << 30, "byte"),
                derived(16e9, "byte/s", "bus times rate", low=12e9, high=20e9),
                efficiency=assumed(0.8, "", "streams", low=0.6, high=0.9),
            ),
        ),
        "costs": {"launch": assumed(1e-6, "s", "round", low=0.5e-6, high=2e-6), "fill": quantity(10, "cycle")},
        "energy": {"mac.int8": quantity(1e-12, "J/MAC"), "byte.dram": quantity(1e-10, "J/byte"), "static": quantity(1, "W")},
        "limits": {"power": quantity(10, "W")},
    }  # fmt: skip
    return AcceleratorSpec(**(fields | changes))
