"""Energy: published values come out as published, the rule between them is monotone, and bad arguments are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilewright.errors import ArgumentError
from tilewright.hardware.machine.energy import DRAM, byte_energy, mac_energy, sram_energy

TYPES = ("int4", "int8", "int16", "bfloat16", "float16", "tf32", "float32")


@pytest.mark.parametrize(
    ("dtype", "node", "picojoules"),
    [
        ("int8", 45, 0.2 + 0.1),
        ("int8", 7, 0.07 + 0.03),
        ("float16", 45, 1.1 + 0.9),
        ("float16", 7, 0.34 + 0.38),
        ("bfloat16", 7, 0.21 + 0.38),
        ("float32", 45, 3.7 + 0.9),
        ("float32", 7, 1.31 + 0.38),
    ],
)
def test_published_multiply_accumulates(dtype, node, picojoules):
    assert float(mac_energy(dtype, node)) == pytest.approx(picojoules * 1e-12, rel=1e-9, abs=0)


@pytest.mark.parametrize(
    ("size", "node", "picojoules"),
    [(8, 45, 10), (8, 7, 7.5), (32, 45, 20), (32, 7, 8.5), (1024, 45, 100), (1024, 7, 14)],
)
def test_published_memories(size, node, picojoules):
    assert float(sram_energy(size << 10, node)) * 8 == pytest.approx(picojoules * 1e-12, rel=1e-9, abs=0)


@given(st.sampled_from(TYPES), st.floats(7, 64), st.floats(0.1, 1))
def test_smaller_nodes_take_less(dtype, node, step):
    assert float(mac_energy(dtype, node)) < float(mac_energy(dtype, node + step))
    assert float(sram_energy(1 << 16, node)) < float(sram_energy(1 << 16, node + step))


@given(st.floats(8 << 10, 1 << 20), st.floats(1.01, 2), st.floats(7, 65))
def test_larger_memories_take_more(size, factor, node):
    assert float(sram_energy(size, node)) <= float(sram_energy(size * factor, node)) * (1 + 1e-12)


def test_narrow_types_take_less():
    assert [float(mac_energy(t, 12)) for t in ("int4", "int8", "bfloat16", "float16", "float32")] == sorted(
        float(mac_energy(t, 12)) for t in TYPES if t not in ("tf32", "int16")
    )


@pytest.mark.parametrize("kind", DRAM)
def test_dram_costs_more_than_any_chip_memory_but_is_within_reason(kind):
    assert float(byte_energy("sram", 12, size=256 << 10)) < float(byte_energy(kind)) < 200e-12
    low, high = byte_energy(kind).interval
    assert low <= float(byte_energy(kind)) <= high


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mac_energy("float8", 7), "unknown data type 'float8'; .*xpected one of 'int8'"),
        (lambda: mac_energy("int8", 90), "known from 7 to 65 nm, got 90 nm"),
        (lambda: sram_energy(0, 7), "must be positive, got 0 bytes"),
        (lambda: byte_energy("l2"), "unknown kind of memory 'l2'; expected one of 'sram', 'hbm2'"),
        (lambda: byte_energy("sram", 7), "pass nanometres= and size="),
    ],
)
def test_wrong_questions(call, words):
    with pytest.raises(ArgumentError, match=words):
        call()
