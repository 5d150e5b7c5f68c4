"""The engine's integers written from ``docs/reference/golden.md`` alone, in Python's integers, as RTL would be built from it."""

import math


def half_away(v, s):
    size = (abs(v) + (1 << (s - 1))) >> s
    return size if v >= 0 else -size


def sat(y, b):
    return max(-(1 << (b - 1)), min((1 << (b - 1)) - 1, y))


def factor(r):
    f, e = math.frexp(r)
    multiplier, shift = round(f * 2**31), 31 - e  # Python rounds halves to even
    if multiplier == 2**31:
        multiplier, shift = 2**30, shift - 1
    return (0, 1) if shift > 62 else (multiplier, shift)


def requantise(acc, r, b):
    multiplier, shift = factor(r)
    return sat(half_away(acc * multiplier, shift), b)


def dot(x, values, positions, m, bias):
    acc = bias
    for g, (group, where) in enumerate(zip(values, positions, strict=True)):
        for value, position in zip(group, where, strict=True):
            k = g * m + position
            acc += value * (x[k] if k < len(x) else 0)
    return acc


def softmax(scores, masked, c, lanes, b):
    table = [math.floor(2 ** (15 - r / 256) + 0.5) for r in range(256)]
    t = [requantise(score, c * math.log2(math.e) * 256, 24) for score in scores]
    E, S = None, 0

    def term(i):
        u = 256 * E - t[i]
        return 0 if u // 256 > 23 else (table[u % 256] * 2**8) >> (u // 256)

    for first in range(0, len(t), lanes):
        block = [i for i in range(first, min(first + lanes, len(t))) if not masked[i]]
        if block:
            top = max((t[i] + 255) >> 8 for i in block)
            grown = top if E is None else max(E, top)
            S, E = S >> (grown - (grown if E is None else E)), grown
            S += sum(term(i) for i in block)
    if E is None:
        return [0] * len(t)
    L = math.floor(math.log2(S))  # exact: S has at most 40 bits
    R = 2**33 // (S >> (L - 16))
    places = 17 + L - b
    return [0 if masked[i] else min((term(i) * R + 2 ** (places - 1)) >> places, 2**b - 1) for i in range(len(t))]


def layer_norm(x, gamma, beta, eps, scale_in, scale_out):
    D = len(x)
    g = max(abs(v) for v in gamma) / scale_out
    e = math.floor(math.log2(g)) + 1
    shift = min(27 - e, 46)
    gain = [min(round(v / scale_out * 2.0 ** (shift - 12)), 32767) for v in gamma]
    offset = [round(v / scale_out * 2.0**shift) for v in beta]
    total = sum(x)
    V = max(D * sum(v * v for v in x) - total**2 + round(eps * D**2 / scale_in**2), 1)
    k = (31 - len(bin(V)[2:])) >> 1
    root = math.isqrt(V << 2 * k if k >= 0 else V >> -2 * k)
    inverse = 2**31 // root
    z = [half_away((D * v - total) * inverse, 19 - k) for v in x]
    return [sat(half_away(z[i] * gain[i] + offset[i], shift), 8) for i in range(D)]


def gelu(x, scale_in, scale_out):
    v = x * scale_in
    y = v / 2 * (1 + math.erf(v / math.sqrt(2))) / scale_out
    return sat(int(math.copysign(math.floor(abs(y) + 0.5), y)), 8)
