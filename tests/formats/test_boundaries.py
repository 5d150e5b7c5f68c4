"""Sizes on both sides of every power of two that limits a type, table or count: written and read back, or rejected immediately."""

import numpy as np
import pytest
from samples import packed, same, takes

from tilewright import patterns
from tilewright.errors import PatternError
from tilewright.formats import StoredWeight, read_checkpoint, write_checkpoint
from tilewright.kernels import linear

EDGES = sorted(
    {side + step for side in (8, 16, 32, 64, 128, 256, 1024, 4096, 32768, 65536, 131072) for step in (-1, 0, 1)}
)
LARGE = [side for side in EDGES if side > 30_000]


def goes_round(tmp_path, text: str, shape: tuple[int, int]) -> None:
    weight = packed(text, shape, seed=sum(shape))
    write_checkpoint(tmp_path / "m", {"w": StoredWeight(weight)}, {}, {})
    back = read_checkpoint(tmp_path / "m").weights["w"].packed
    assert same(back, weight)
    assert str(back.pattern) == text
    dense = weight.unpack()
    assert (back.unpack() == dense).all()
    x = np.random.default_rng(0).standard_normal((2, shape[1]), dtype=np.float32)
    np.testing.assert_allclose(linear(x, back), x @ dense.T, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("inputs", EDGES)
@pytest.mark.parametrize(
    "text",
    [
        "2:4",
        "1:64",
        "32:64x4",
        "1:65",
        "3:100x3",
        "1:256",
        "any@97%",
        "tw8@75%",
        "tew4@80%+2%",
        "tvw8@80%:3:7",
        "block3x5@75%",
    ],
)
def test_every_number_of_inputs(tmp_path, text, inputs):
    for outputs in (1, 9):
        if takes(text, (outputs, inputs)):
            goes_round(tmp_path, text, (outputs, inputs))


@pytest.mark.parametrize("m", EDGES)
def test_every_m(tmp_path, m):
    for n, tile in ((1, 1), (max(1, m // 2), 3), (max(1, m - 1), 1)):
        for inputs in {m, m + 1, 2 * m, 65_535, 65_536, 65_537}:
            text = str(patterns.NM(n, m, tile))
            if n < inputs and takes(text, (4, inputs)):
                goes_round(tmp_path, text, (4, inputs))


@pytest.mark.parametrize("tile", [255, 256, 257, 1023, 1024])
@pytest.mark.parametrize("text", ["2:4x{}", "tw{}@75%", "tew{}@70%+5%", "tvw{}@75%", "block{}x{}@50%"])
def test_every_tile(tmp_path, text, tile):
    text = text.format(tile, tile)
    for outputs in (tile - 1, tile, tile + 1, 2 * tile + 1):
        goes_round(tmp_path, text, (outputs, 260 if "block" not in text else 2 * tile))


@pytest.mark.parametrize("outputs", LARGE)
@pytest.mark.parametrize("text", ["2:4", "2:4x8", "tw16@75%", "any@75%", "block4x4@50%"])
def test_every_number_of_outputs(tmp_path, text, outputs):
    goes_round(tmp_path, text, (outputs, 8))


@pytest.mark.parametrize("number", [1025, 2**16, 2**31, 2**63, 2**64, 10**5000], ids=lambda n: f"{n.bit_length()} bits")
@pytest.mark.parametrize(
    "make",
    [
        lambda size: patterns.NM(2, 4, size),
        lambda size: patterns.TileWise(size, 0.5),
        lambda size: patterns.TileElementWise(size, 0.5, 0.1),
        lambda size: patterns.TileVectorWise(size, 0.75),
        lambda size: patterns.TileVectorWise(8, 0.75, size, size),
        lambda size: patterns.Block(size, 4, 0.5),
        lambda size: patterns.Block(4, size, 0.5),
    ],
    ids=["nm", "tw", "tew", "tvw", "inner", "rows", "columns"],
)
def test_what_no_file_holds_is_refused_by_the_pattern(make, number):
    with pytest.raises(
        PatternError, match=r"\w+ of a .* pattern must be at most (1,024|64), got (\d{4,}(\.\.\.)?|a int)$"
    ):
        make(number)


@pytest.mark.parametrize(
    "text",
    [
        "2:4x1025",
        "tw1025@50%",
        "tew2000@50%+1%",
        "tvw99999@75%",
        "tvw8@90%:2:65",
        "block1025x1@50%",
        "1:2147483648",
        f"1:{'9' * 4000}",
    ],
)
def test_its_text_is_refused_as_well(text):
    with pytest.raises(PatternError) as caught:
        patterns.parse(text)
    assert len(str(caught.value)) < 400
