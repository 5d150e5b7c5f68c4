"""Pictures of masks: the pixels, read by an independent decoder, are the mask."""

import base64
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilewright.errors import ArgumentError
from tilewright.pages import pictures


def decode(uri):
    """Return the opacity of each pixel of an indexed PNG, checking every checksum."""
    body = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    assert body[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(body):
        (length,) = struct.unpack(">I", body[at : at + 4])
        kind, data = body[at + 4 : at + 8], body[at + 8 : at + 8 + length]
        assert zlib.crc32(kind + data) == struct.unpack(">I", body[at + 8 + length : at + 12 + length])[0]
        chunks[kind] = data
        at += 12 + length
    columns, rows, depth, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert (depth, colour) == (8, 3)
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(rows, columns + 1)
    assert not lines[:, 0].any()
    assert len(chunks[b"PLTE"]) == 3 * 256
    return np.frombuffer(chunks[b"tRNS"], np.uint8)[lines[:, 1:]]


@given(
    rows=st.integers(1, 130),
    columns=st.integers(1, 200),
    density=st.sampled_from([0.0, 0.03, 0.5, 1.0]),
    seed=st.integers(0, 99),
)
def test_pixels_are_the_mask(rows, columns, density, seed):
    mask = np.random.default_rng(seed).random((rows, columns)) < density
    picture = pictures.picture_of("w", mask)
    crop = decode(picture.crop)
    assert np.array_equal(crop == 255, mask[:48, :64])
    assert set(np.unique(crop)) <= {0, 255}
    whole = decode(picture.whole)
    assert whole.shape == (picture.whole_rows, picture.whole_columns)
    assert picture.whole_rows <= 48
    assert picture.whole_columns <= 64
    for i in range(picture.whole_rows):
        for j in range(picture.whole_columns):
            cell = mask[i * picture.cell : (i + 1) * picture.cell, j * picture.cell : (j + 1) * picture.cell]
            expected = 255 * cell.mean() / picture.densest if picture.densest else 0
            assert abs(whole[i, j] - expected) <= 0.5001
    assert picture.density == mask.mean()


@pytest.mark.parametrize("bad", [np.ones((2, 2)), np.ones((2, 2, 2), bool), np.ones((0, 4), bool), np.ones(4, bool)])
def test_what_is_no_mask_is_refused(bad):
    with pytest.raises(
        ArgumentError, match=r"mask of enc\.w: a picture needs a boolean matrix \[N, K\], got .*as_matrix"
    ):
        pictures.picture_of("enc.w", bad)
