"""Masks as small PNG images, encoded here so that a report needs neither an imaging library nor a second file."""

import base64
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError

__all__ = ["MaskPicture", "picture_of"]

# One colour that stands out on white and on near-black; pruned elements are transparent and show the page's background.
_INK = (0x1F, 0x8F, 0x88)
_CROP_ROWS, _CROP_COLUMNS = 48, 64


@dataclass(frozen=True)
class MaskPicture:
    """Two images of one mask, as data URIs.

    Parameters
    ----------
    name, shape, density
        Name of the weight, and shape ``(N, K)`` and density of its mask.
    crop
        Image of the top-left corner, one cell per element.
    crop_rows, crop_columns
        Size of that corner in elements.
    whole
        Image of the whole mask; each cell shows the density of `cell` by `cell` elements, relative to `densest`.
    whole_rows, whole_columns
        Size of that image in cells.
    cell
        Side of a cell of `whole`, in elements.
    densest
        Density of the densest cell, which is drawn in full colour.
    """

    name: str
    shape: tuple[int, int]
    density: float
    crop: str
    crop_rows: int
    crop_columns: int
    whole: str
    whole_rows: int
    whole_columns: int
    cell: int
    densest: float


def picture_of(name: str, mask: NDArray[np.bool_]) -> MaskPicture:
    """Draw a mask.

    Parameters
    ----------
    name
        Name of the weight.
    mask
        Boolean mask ``[N, K]``, True where kept.

    Raises
    ------
    ArgumentError
        If the mask is not a boolean matrix with at least one element.
    """
    mask = np.asarray(mask)
    if mask.dtype != np.bool_ or mask.ndim != 2 or mask.size == 0:
        raise ArgumentError(
            f"mask of {name}: a picture needs a boolean matrix [N, K], got {mask.dtype} of shape {list(mask.shape)}; "
            "convert weights of other shapes, such as convolutions, with tilewright.patterns.as_matrix first"
        )
    rows, columns = mask.shape
    crop = mask[:_CROP_ROWS, :_CROP_COLUMNS]
    cell = max(1, -(-rows // _CROP_ROWS), -(-columns // _CROP_COLUMNS))
    cells = _cell_densities(mask, cell)
    densest = float(cells.max())
    levels = np.rint(cells / densest * 255) if densest > 0 else np.zeros_like(cells)
    return MaskPicture(
        name=name,
        shape=(rows, columns),
        density=float(mask.mean()),
        crop=_png(crop.astype(np.uint8) * 255),
        crop_rows=crop.shape[0],
        crop_columns=crop.shape[1],
        whole=_png(levels.astype(np.uint8)),
        whole_rows=cells.shape[0],
        whole_columns=cells.shape[1],
        cell=cell,
        densest=densest,
    )


def _cell_densities(mask: NDArray[np.bool_], cell: int) -> NDArray[np.float64]:
    """Return the density of each cell; cells at the right and lower edges may be smaller."""
    row_starts = np.arange(0, mask.shape[0], cell)
    column_starts = np.arange(0, mask.shape[1], cell)
    kept = np.add.reduceat(mask, row_starts, axis=0, dtype=np.int64)
    kept = np.add.reduceat(kept, column_starts, axis=1)
    heights = np.diff(np.append(row_starts, mask.shape[0]))
    widths = np.diff(np.append(column_starts, mask.shape[1]))
    return np.asarray(kept / np.outer(heights, widths), dtype=np.float64)


def _png(opacity: NDArray[np.uint8]) -> str:
    """Encode ``[rows, columns]`` opacities of one colour as an indexed PNG data URI."""
    rows, columns = opacity.shape
    scanlines = np.zeros((rows, columns + 1), np.uint8)  # each line starts with its filter type: 0, none
    scanlines[:, 1:] = opacity
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)),
        (b"PLTE", bytes(_INK) * 256),
        (b"tRNS", bytes(range(256))),
        (b"IDAT", zlib.compress(scanlines.tobytes(), 9)),
        (b"IEND", b""),
    )
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + body).decode()
