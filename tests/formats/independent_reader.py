"""Reads packed parameters as matrices [N, K], from docs/reference/format.md alone; trusts the file."""

# fmt: off
# ruff: noqa: I001, B905
import json
from math import comb

import numpy as np

def floats(dtype, data):
    wide = np.frombuffer(data, {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[dtype])
    return (wide.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else wide.astype(np.float32)

def choose(bits, groups, n, m):  # one field stream per group length: m first, then 1, 2, ...
    chosen, cursor, bits = {}, 0, bits.tolist()
    for length in [m, *range(1, m)]:
        kept, width = min(n, length), (comb(length, min(n, length)) - 1).bit_length()
        for i in (i for i, group in enumerate(groups) if len(group) == length):
            number, chosen[i] = sum(bit << b for b, bit in enumerate(bits[cursor : cursor + width])), []
            for k in range(kept, 0, -1):
                chosen[i].insert(0, max(p for p in range(length) if comb(p, k) <= number))
                number -= comb(chosen[i][0], k)
            cursor += width
        cursor = -(-cursor // 8) * 8
    return [[group[p] for p in chosen[i]] for i, group in enumerate(groups)]

def members(entry, limit, units, bits):
    if entry["encoding"] == "bitmap" or limit == 0:
        return np.flatnonzero(bits[:limit])
    e = entry["count"] if entry["encoding"] == "sorted" else limit - entry["count"]
    low = min(10, units.bit_length() - 1, (limit // e if e else 1024).bit_length() - 1)
    lows = bits[: e * low].reshape(e, low) @ (1 << np.arange(low))
    listed = ((np.flatnonzero(bits[-(-e * low // 8) * 8 :]) - np.arange(e)) << low) + lows
    return listed if entry["encoding"] == "sorted" else np.setdiff1d(np.arange(limit), listed)

def read_weight(name, entry, tensors):
    (N, K), (head, _, tail) = entry["shape"], entry["pattern"].partition("@")
    numbers = [int(x) for x in "".join(c if c.isdigit() else " " for c in head).split()] + [1, 1]
    bits = {s: np.unpackbits(np.frombuffer(tensors[f"{name}.{s}"][1], np.uint8), bitorder="little").astype(int)
            for s in ("index", "rows", "inner", "residual_index") if f"{name}.{s}" in tensors}
    rows = np.flatnonzero(bits["rows"]) if "rows" in bits else np.arange(N)
    V, u = numbers[:2] if tail else (numbers[2], numbers[1] if entry["encoding"] == "rank" else 1)
    tiles = [rows[t : t + V] for t in range(0, len(rows), V)]
    units = [list(range(j, min(j + u, K))) for j in range(0, K, u)]
    if entry["encoding"] != "rank":
        kept, k = members(entry, len(tiles) * len(units), len(units), bits["index"]), len(units)
        columns = [[i for j in kept[kept // k == t] % k for i in units[j]] for t in range(len(tiles))]
    else:
        kept = iter(choose(bits["index"], units * len(tiles), *numbers[:2]))
        columns = [[i for _ in units for i in next(kept)] for _ in tiles]
    where = [(o, i) for outputs, kept in zip(tiles, columns) for i in kept for o in outputs]
    if "inner" in bits:
        n, m = map(int, tail.split(":")[1:] or (2, 4))
        groups = [(o, c[g : g + m]) for out, c in zip(tiles, columns) for o in out for g in range(0, len(c), m)]
        chosen = choose(bits["inner"], [group for _, group in groups], n, m)
        where = [(o, i) for (o, _), group in zip(groups, chosen) for i in group]
    dense = np.zeros((N, K), np.float32)
    dense[tuple(np.array(where, int).reshape(-1, 2).T)] = floats(*tensors[f"{name}.values"])
    if "residual" in entry:
        dense.flat[members(entry["residual"], N * K, K, bits["residual_index"])] = floats(*tensors[f"{name}.residual_values"])
    return name, dense

def read_packed(config, data):  # the bytes of config.json and of model.safetensors
    start = 8 + int.from_bytes(data[:8], "little")
    header = {name: entry for name, entry in json.loads(data[8:start]).items() if name != "__metadata__"}
    tensors = {name: (entry["dtype"], data[start:][slice(*entry["data_offsets"])]) for name, entry in header.items()}
    modules = json.loads(config)["quantization_config"]["modules"].items()
    entries = ((f"{module}.{name}".lstrip("."), entry) for module, names in modules for name, entry in names.items())
    return dict(read_weight(name, entry, tensors) for name, entry in entries)
