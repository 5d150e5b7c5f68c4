"""Launchers of the operations between products, on panels: normalisation, attention, embedding and pooling."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError
from .. import reference
from ..dispatch import choose, native, remember
from .checking import check, check_threads, output

__all__ = ["attention_panels", "embed_panels", "norm_panels", "pool_panels"]

Panels = NDArray[np.float32]
Starts = NDArray[np.int64]


def norm_panels(
    x: Panels,
    scale: NDArray[np.float32],
    shift: NDArray[np.float32] | None = None,
    *,
    residual: Panels | None = None,
    epsilon: float = 1e-5,
    centred: bool = True,
    threads: int = 1,
    implementation: str | None = None,
) -> tuple[Panels, Panels]:
    """Normalise every token over its features, after adding a residual.

    Parameters
    ----------
    x
        Panels, float32 ``[P, F, T]``; T is a multiple of 16.
    scale, shift
        Factor and offset of each feature, float32 ``[F]``. Default for `shift`: no offset.
    residual
        Panels added to `x` first, float32 ``[P, F, T]``. Default: nothing is added.
    epsilon
        Number added to the variance. Default: 1e-5.
    centred
        True for layer norm, False for RMS norm, which does not subtract the mean. Default: True.
    threads, implementation
        As for `linear`.

    Returns
    -------
    tuple of ndarray
        The normalised panels, and the panels that were normalised: x + residual, or x itself.

    Raises
    ------
    ArgumentError, NotSupportedError
        As for `linear`.
    """
    name = choose(implementation)
    check("x", x, (None, None, None), "[panel, F, T]")
    P, F, T = x.shape
    _check_width(T)
    check("scale", scale, (F,), "[F]")
    if shift is not None:
        check("shift", shift, (F,), "[F]")
    if residual is not None:
        check("residual", residual, (P, F, T), "[panel, F, T]")
    if F == 0 or epsilon < 0:
        raise ArgumentError(f"a norm needs at least one feature and an epsilon of at least 0; got {F} and {epsilon}")
    check_threads(threads)
    total = x if residual is None else output(None, (P, F, T), "[panel, F, T]")
    if name == "reference":
        y, total[...] = reference.norm_panels(x, scale, shift, residual, epsilon, centred)
    else:
        y = output(None, (P, F, T), "[panel, F, T]")
        name = native().norm_panels(
            name, x, residual, None if residual is None else total, scale, shift, y, epsilon, centred, threads
        )
    remember(name)
    return y, total


def attention_panels(
    q: Panels,
    k: Panels,
    v: Panels,
    starts: Starts,
    heads: int,
    *,
    key_heads: int | None = None,
    causal: bool = False,
    scale: float | None = None,
    threads: int = 1,
    implementation: str | None = None,
) -> Panels:
    """Return attention of every sequence over itself: ``softmax(scale * q k.T) v`` for each head.

    Parameters
    ----------
    q
        Queries, float32 ``[P, heads * depth, T]``; T is a multiple of 16. Token t of the batch is in panel ``t // T`` at lane
        ``t % T``.
    k, v
        Keys and values, float32 ``[P, key_heads * depth, T]``.
    starts
        First token of each sequence, then the total number of tokens; int64 ``[sequences + 1]``. Sequences follow one another
        without padding and do not attend to each other.
    heads
        Number of heads of the queries.
    key_heads
        Number of heads of the keys and values, each read by ``heads / key_heads`` neighbouring heads of the queries. Default:
        `heads`.
    causal
        Whether tokens cannot attend to later ones. Default: False.
    scale
        Factor of the scores. Default: ``depth ** -0.5``.
    threads, implementation
        As for `linear`.

    Returns
    -------
    ndarray
        float32 ``[P, heads * depth, T]``; lanes after the last token are unspecified.

    Raises
    ------
    ArgumentError, NotSupportedError
        As for `linear`, and if heads, features and sequences do not match each other.

    Notes
    -----
    Values must be finite. The softmax is that of Milakov and Gimelshein (arXiv 1805.02867): maximum and sum are updated block by
    block of keys, so memory does not grow with the square of the length.
    """
    name, groups = choose(implementation), heads if key_heads is None else key_heads
    check("q", q, (None, None, None), "[panel, heads * depth, T]")
    P, features, T = q.shape
    _check_width(T)
    if heads < 1 or groups < 1 or heads % groups or features % heads or features == 0:
        raise ArgumentError(
            f"q has {features} features, {heads} heads and {groups} heads of keys; features must be a multiple of heads, and heads a "
            "multiple of heads of keys"
        )
    depth = features // heads
    for label, panels in (("k", k), ("v", v)):
        check(label, panels, (P, groups * depth, T), "[panel, key_heads * depth, T]")
    _check_starts(starts, P, T)
    check_threads(threads)
    factor = depth**-0.5 if scale is None else float(scale)
    if name == "reference":
        y = reference.attention_panels(q, k, v, starts, heads, groups, causal, factor)
    else:
        y = output(None, (P, features, T), "[panel, heads * depth, T]")
        name = native().attention_panels(name, q, k, v, y, starts, heads, groups, causal, factor, threads)
    remember(name)
    return y


def embed_panels(
    tables: Sequence[NDArray[np.float32]],
    ids: NDArray[np.int64],
    T: int,
    *,
    threads: int = 1,
    implementation: str | None = None,
) -> Panels:
    """Return the sum of one row of each table for every token, as panels.

    Parameters
    ----------
    tables
        Tables of embeddings such as words, positions and types, each float32 ``[rows, F]``.
    ids
        Row of each table for each token, int64 ``[tables, tokens]``.
    T
        Number of tokens in a panel, a multiple of 16.
    threads, implementation
        As for `linear`.

    Returns
    -------
    ndarray
        float32 ``[ceil(tokens / T), F, T]``, zero after the last token.

    Raises
    ------
    ArgumentError, NotSupportedError
        As for `linear`, and if an id is outside its table.
    """
    name = choose(implementation)
    _check_width(T)
    _check_whole("ids", ids, (len(tables), None), "[tables, tokens]")
    if not tables:
        raise ArgumentError("embed_panels needs at least one table")
    for i, table in enumerate(tables):
        check(f"tables[{i}]", table, (None, tables[0].shape[-1]), "[rows, F]")
        if ids.shape[1] and not (ids[i].min() >= 0 and ids[i].max() < len(table)):
            raise ArgumentError(
                f"ids of table {i} go from {ids[i].min()} to {ids[i].max()}, but its rows are 0 to {len(table) - 1}"
            )
    check_threads(threads)
    tokens, F = ids.shape[1], tables[0].shape[1]
    if name == "reference":
        y = reference.embed_panels(tables, ids, T)
    else:
        y = output(None, (-(-tokens // T), F, T), "[panel, F, T]")
        name = native().embed_panels(name, list(tables), ids, y, threads)
    remember(name)
    return y


def pool_panels(
    panels: Panels,
    starts: Starts,
    kind: Literal["mean", "first"] = "mean",
    *,
    threads: int = 1,
    implementation: str | None = None,
) -> NDArray[np.float32]:
    """Return one row of features for every sequence.

    Parameters
    ----------
    panels
        Panels, float32 ``[P, F, T]``.
    starts
        As for `attention_panels`; no sequence may be empty.
    kind
        ``"mean"`` for the mean over the sequence's tokens, ``"first"`` for its first token. Default: ``"mean"``.
    threads, implementation
        As for `linear`.

    Returns
    -------
    ndarray
        float32 ``[sequences, F]``.

    Raises
    ------
    ArgumentError, NotSupportedError
        As for `attention_panels`.
    """
    name = choose(implementation)
    if kind not in ("mean", "first"):
        raise ArgumentError(f"unknown kind of pooling {kind!r}; expected 'mean' or 'first'")
    check("panels", panels, (None, None, None), "[panel, F, T]")
    P, F, T = panels.shape
    _check_width(T)
    _check_starts(starts, P, T)
    if (np.diff(starts) == 0).any():
        raise ArgumentError(
            f"sequence {int(np.flatnonzero(np.diff(starts) == 0)[0])} is empty, so there is nothing to pool"
        )
    check_threads(threads)
    if name == "reference":
        y = reference.pool_panels(panels, starts, kind == "mean")
    else:
        y = output(None, (len(starts) - 1, F), "[sequences, F]")
        name = native().pool_panels(name, panels, starts, y, kind == "mean", threads)
    remember(name)
    return y


def _check_width(T: int) -> None:
    if T < 1 or T % 16:
        raise ArgumentError(f"a panel holds a positive multiple of 16 tokens; got T = {T}")


def _check_whole(name: str, array: Any, shape: tuple[int | None, ...], axes: str) -> None:
    fits = (
        isinstance(array, np.ndarray)
        and array.dtype == np.int64
        and array.ndim == len(shape)
        and array.flags.c_contiguous
        and all(want is None or want == size for want, size in zip(shape, array.shape, strict=True))
    )
    if not fits:
        raise ArgumentError(f"{name} must be a C-contiguous int64 array {axes}; got {_described(array)}")


def _described(array: Any) -> str:
    return f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__


def _check_starts(starts: Any, panels: int, T: int) -> None:
    _check_whole("starts", starts, (None,), "[sequences + 1]")
    if len(starts) < 2 or starts[0] != 0 or (np.diff(starts) < 0).any():
        raise ArgumentError(
            "starts must be 0, then ascend to the number of tokens, one entry more than there are sequences"
        )
    if -(-int(starts[-1]) // T) != panels:
        raise ArgumentError(
            f"{int(starts[-1])} tokens fill {-(-int(starts[-1]) // T)} panels of {T}; got {panels} panels"
        )
