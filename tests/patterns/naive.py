"""Masks computed in the slow, obvious way, for tests to compare with."""

from itertools import combinations, product

import numpy as np


def best_of(group, n):
    """Return the n best indices of a short list; ties go to the lowest index."""
    order = sorted(range(len(group)), key=lambda i: (-group[i], i))
    return set(order[:n])


def nm(scores, n, m, tile=1):
    """Return the n:m mask along the inputs, shared by `tile` outputs and chosen by the sum of squares."""
    mask = np.zeros(scores.shape, dtype=bool)
    for row in range(0, scores.shape[0], tile):
        rows = slice(row, row + tile)
        shared = scores[row] if tile == 1 else np.square(scores[rows]).sum(axis=0)
        for start in range(0, scores.shape[1], m):
            for column in best_of(list(shared[start : start + m]), n):
                mask[rows, start + column] = True
    return mask


def transposable(block, n, m):
    """Return the best of all m x m masks with n in each row and column, by trying all of them."""
    rows = list(combinations(range(m), n))
    best, kept = None, -1.0
    for choice in product(rows, repeat=m):
        counts = np.zeros(m, dtype=int)
        for row in choice:
            counts[list(row)] += 1
        if (counts == n).all():
            total = sum(block[i, list(row)].sum() for i, row in enumerate(choice))
            if total > kept + 1e-12:
                best, kept = choice, total
    return kept, best


def tile_wise(layers, tile, sparsity):
    """Return TW masks by loops: outputs first, then tile columns, both ranked over all layers, up to the element budget."""
    total_outputs = sum(len(layer) for layer in layers)
    keep_outputs = round(total_outputs * float(np.sqrt(1 - sparsity)))
    ranked = sorted(
        (
            (-np.float32(np.sqrt(np.float32((row * row).sum()))) / layer.shape[1], index, r)
            for index, layer in enumerate(layers)
            for r, row in enumerate(layer)
        ),
    )
    alive = [[] for _ in layers]
    for _, index, r in ranked[:keep_outputs]:
        alive[index].append(r)
    entries = []
    for index, layer in enumerate(layers):
        rows = sorted(alive[index])
        last = 0
        for start in range(0, len(rows), tile):
            group = rows[start : start + tile]
            end = len(layer) if start + tile >= len(rows) else group[-1] + 1
            norms = np.sqrt(np.square(layer[group]).sum(axis=0)) / (end - last)
            last = end
            entries += [(-norm, index, start, column, group) for column, norm in enumerate(norms)]
    budget = round((1 - sparsity) * sum(layer.size for layer in layers))
    masks = [np.zeros(layer.shape, dtype=bool) for layer in layers]
    for _, index, _, column, group in sorted(entries, key=lambda e: e[:4]):
        if budget < len(group):
            break
        masks[index][group, column] = True
        budget -= len(group)
    return masks
