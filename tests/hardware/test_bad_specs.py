"""Machines that cannot be built and models that do not fit: one message with field and value, on the command line too."""

import re
from dataclasses import replace

import pytest

from tilewright.errors import ArgumentError
from tilewright.hardware.machine.presets import preset
from tilewright.hardware.simulate import simulate

NUMBERS = [
    ("sta", "rows", 0, "rows is 0; it must be a whole number of at least 1"),
    ("s4", "columns", 2.5, "columns is 2.5; it must be a whole number"),
    ("a100", "cores", 0, "cores is 0"),
    ("sta", "costs.lanes", 0, "costs.lanes is 0; it must be at least 1"),
    ("sta", "costs.vector.lanes", 0, "costs.vector.lanes is 0; it must be at least 1"),
    ("s4", "costs.vector.lanes", 0, "costs.vector.lanes is 0; it must be at least 1"),
    ("sta", "costs.window", 12, "costs.window is 12; it must be a power of two"),
    ("s4", "costs.bank", 48, "costs.bank is 48; it must be a power of two"),
    ("s4", "costs.bank", 0, "costs.bank is 0; it must be at least 1"),
    ("a100", "costs.port", 0, "costs.port is 0; it must be positive"),
    ("a100", "macs.float16", 0, "macs.float16 is 0; it must be positive"),
    ("t4", "memories.dram.bandwidth", 0, "memories.dram.bandwidth is 0; it must be positive"),
]


@pytest.mark.parametrize(("arch", "path", "value", "words"), NUMBERS)
def test_a_number_out_of_range(arch, path, value, words):
    with pytest.raises(ArgumentError, match=rf"^{arch}: {re.escape(words)}"):
        preset(arch).with_quantity(path, value)


@pytest.mark.parametrize("steps", [(1, 3), (2, 6), (5, 12)])
def test_m_of_a_selector_is_a_power_of_two(steps):
    n, m = steps
    with pytest.raises(ArgumentError, match=rf"sta: selectors.int16 is {n}:{m}; it must be n:m with m a power of two"):
        replace(preset("sta"), selectors={"int16": (steps,)})


@pytest.mark.parametrize(
    ("arch", "path", "value", "pattern", "words"),
    [
        ("sta", "costs.lanes", 3, None, r"macs.int16 is 2048 .* with 3 multipliers makes 3072"),
        (
            "sta",
            "memories.activations.size",
            1000,
            None,
            r"memories.activations.size is 1,000 bytes.* 8 x 128 take 2,048",
        ),
        ("s4", "memories.activations.size", 100, "16:64", r"memories.activations.size is .* use a larger memory"),
        ("a100", "memories.shared.size", 1024, "2:4", r"a100 has no tile that fits its shared memory of 1024 byte"),
        ("sta", "memories.dram.size", 1e8, None, r"bert-base does not fit sta: .*memories.dram.size is 100,000,000"),
    ],
)
def test_a_model_that_does_not_fit(arch, path, value, pattern, words):
    with pytest.raises(ArgumentError, match=words):
        simulate("bert-base", preset(arch).with_quantity(path, value), pattern=pattern, interval=False)


def test_a_wider_pattern_than_the_window():
    spec = replace(preset("sta"), selectors={"int16": ((1, 32),)})
    with pytest.raises(ArgumentError, match="selectors of 16 inputs take m from 2 to 16, a power of two; got 1:32"):
        simulate("bert-base", spec, pattern="1:32", interval=False)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("--arch", "sta", "--batch", "100000"),
            r"bert-large does not fit sta: .* memories.dram.size is 2,147,483,648",
        ),
        (("--arch", "stb"), r"unknown accelerator 'stb'; did you mean 'sta'"),
        (("--arch", "s4", "--dtype", "float32"), "s4 does not multiply float32; it takes int8, bfloat16"),
    ],
)
def test_the_command_says_so(words, sentence, capfd):
    from tilewright.cli import main

    code = main(["simulate", "--network", "bert-large", "--fidelity", "roofline", *words])
    out, err = capfd.readouterr()
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert re.search(sentence, err)
