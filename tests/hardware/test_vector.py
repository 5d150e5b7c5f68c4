"""The vector unit: passes, overlap, traffic."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilewright.errors import ArgumentError
from tilewright.hardware import Operation
from tilewright.hardware.engines import vector
from tilewright.hardware.machine.presets import preset

STA = preset("sta")
S4 = preset("s4")


def softmax(rows, row):
    return Operation("softmax", "softmax", function="softmax", row=row, reads=rows * row, writes=rows * row)


def element(function, count, reads=1):
    return Operation(function, "elementwise", function=function, reads=reads * count, writes=count)


def product(name="fc"):
    return Operation(name, "matmul", M=64, N=64, K=64)


def test_time_is_passes_over_lanes_and_latency():
    assert vector.run(S4, softmax(100, 64), "int8").causes == {"vector": 2 * 6400 // 256 + 64}
    result = vector.run(STA, softmax(3, 5), "int16")
    assert result.causes == {"vector": 1 + 32, "launch": 200}
    assert result.cycles == 233


def test_functions_on_the_way_out_take_no_time():
    result = vector.run(S4, element("relu", 10**6), "int8")
    assert (result.cycles, result.causes, result.joules) == (0, {}, {})
    assert result.note == "as results leave the lanes"


def test_pooling_counts_what_it_reads_and_adding_what_it_writes():
    pool = Operation("pool", "pool", function="max_pool", reads=9000, writes=1000)
    assert vector.elements(pool) == 9000
    assert vector.elements(element("add", 1000, 2)) == 1000


def test_elements_that_do_not_fit_come_from_dram():
    large = Operation("norm", "norm", function="layer_norm", row=1024, reads=1 << 21, writes=1 << 21)
    result = vector.run(STA, large, "int16")
    assert result.bytes == {"dram": 1 << 23}
    slow = STA.with_quantity("memories.dram.bandwidth", 1e9)
    assert vector.run(slow, large, "int16").causes["bandwidth"] > 0
    assert not vector.run(STA, softmax(1 << 10, 1 << 11), "int16").bytes  # scores stay on the chip


def test_softmax_hides_behind_the_products_beside_it_and_a_norm_does_not():
    steps = [product("scores"), softmax(8, 8), product("context"), element("tanh", 64), product("out")]
    assert vector.visible(STA, steps, [100, 150, 80, 70, 100]) == [100, 0, 80, 70, 100]
    assert vector.visible(STA, steps, [100, 250, 80, 70, 100]) == [100, 70, 80, 70, 100]


def test_products_elsewhere_hide_vector_work_only_where_samples_run_side_by_side():
    steps = [softmax(8, 8), product("a"), product("b")]
    assert vector.visible(STA, steps, [90, 50, 70]) == [40, 50, 70]
    assert vector.visible(S4, steps, [90, 50, 70]) == [0, 50, 70]
    assert vector.visible(S4, steps, [200, 50, 70]) == [80, 50, 70]


@given(
    st.sampled_from([STA, S4, replace(STA, costs={"vector.lanes": STA.costs["vector.lanes"]})]),
    st.lists(st.tuples(st.sampled_from(["product", "softmax", "tanh", "gelu"]), st.integers(0, 50)), max_size=12),
)
def test_no_cycle_hides_two(spec, drawn):
    steps = [
        product(str(i)) if kind == "product" else softmax(1, 1) if kind == "softmax" else element(kind, 1)
        for i, (kind, _) in enumerate(drawn)
    ]
    cycles = [count for _, count in drawn]
    shown = vector.visible(spec, steps, cycles)
    lanes = sum(count for (kind, count) in drawn if kind == "product")
    assert all(0 <= after <= before for after, before in zip(shown, cycles, strict=True))
    assert all(
        after == before for after, before, o in zip(shown, cycles, steps, strict=True) if vector.overlap(spec, o) == 0
    )
    assert sum(cycles) - sum(shown) <= lanes


def test_a_unit_needs_its_lanes_and_a_product_is_none_of_its_business():
    bare = replace(STA, costs={})
    with pytest.raises(ArgumentError, match=r"sta: costs has no vector\.lanes"):
        vector.run(bare, softmax(1, 1), "int16")
    with pytest.raises(ArgumentError, match="fc is a matmul"):
        vector.run(STA, product(), "int16")
