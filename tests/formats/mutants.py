"""An endless, reproducible stream of damaged checkpoints: damaged bytes anywhere, and false claims in well-formed files."""

import copy
import json
import random
import struct
from collections.abc import Callable, Iterator

from bending import Parts
from samples import EVERY_PATTERN, packed, takes

from tilewright.formats import StoredWeight
from tilewright.formats.container import serialize
from tilewright.formats.weight import encode_weight, guard_of

Files = dict[str, bytes]

SHAPES = ((1, 3), (6, 20), (4, 16), (9, 70))
NUMBERS = (0, 1, 2, 3, 4, 7, 8, 15, 16, 63, 64, 65, 255, 256, 1023, 1024, 65535, 65536, 2**31 - 1, 2**31, 2**32, 2**53, 2**61,
           2**62, 2**63, 2**64, 10**30, -1, -2**31)  # fmt: skip
TEXTS = (*EVERY_PATTERN, "float32", "float16", "bfloat16", "rank", "bitmap", "sorted", "holes", "linear", "conv", "transposed",
         "U8", "F32", "F16", "I64", "BOOL", "F4", "", "../x", "2:4x1000000000", "1:64", "63:64", "tw1024@0%", "any@0%")  # fmt: skip
OTHERS = (None, True, False, 1.5, 1e308, [], {}, [0], {"a": 1}, "1")


def originals() -> list[Files]:
    """One small checkpoint for each pattern and two shapes that can take it."""
    found = []
    for i, text in enumerate(EVERY_PATTERN):
        fitting = [shape for shape in SHAPES if takes(text, shape)] or [(4, 180)]
        for shape in fitting[-2:]:
            dtype = ("float32", "float16", "bfloat16")[i % 3]
            found.append(_files(StoredWeight(packed(text, shape, i, dtype))))
    return found


def _files(weight: StoredWeight) -> Files:
    entry, tensors = encode_weight("w", weight)
    block = {"quant_method": "tilewright", "format_version": 2, "modules": {"": {"w": entry}}}
    data = b"".join(serialize({"w": guard_of(weight), **tensors}))
    return {"config.json": json.dumps({"quantization_config": block}).encode(), "model.safetensors": data}


def mutants(seed: int) -> Iterator[tuple[str, Files]]:
    """Yield (kind of damage, files) forever; the same seed gives the same mutants."""
    draw, sources = random.Random(seed), originals()
    kinds = [kind for kind, weight in KINDS for _ in range(weight)]
    while True:
        kind = draw.choice(kinds)
        files = dict(draw.choice(sources))
        yield kind.__name__.strip("_"), kind(draw, files, sources)


def _bytes_of(draw: random.Random, data: bytes, start: int, end: int) -> bytes:
    """Change one to four bytes between start and end: flipped, replaced, copied, swapped."""
    if end <= start:
        return data
    out = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        at = draw.randrange(start, end)
        other = draw.randrange(start, end)
        out[at] = draw.choice((out[at] ^ (1 << draw.randrange(8)), draw.randrange(256), out[other], 0, 255))
    return bytes(out)


def payload_bytes(draw: random.Random, files: Files, _: list[Files]) -> Files:
    """Damage in the payload, mostly near its end, where the index tensors are."""
    data = files["model.safetensors"]
    start = 8 + struct.unpack("<Q", data[:8])[0]
    if draw.random() < 0.7:
        start = max(start, len(data) - 48)
    return {**files, "model.safetensors": _bytes_of(draw, data, start, len(data))}


def header_bytes(draw: random.Random, files: Files, _: list[Files]) -> Files:
    """Damage in the header's text or in its length."""
    data = files["model.safetensors"]
    end = 8 + struct.unpack("<Q", data[:8])[0]
    return {**files, "model.safetensors": _bytes_of(draw, data, 0 if draw.random() < 0.3 else 8, end)}


def config_bytes(draw: random.Random, files: Files, _: list[Files]) -> Files:
    """Damage in the text of config.json."""
    data = files["config.json"]
    return {**files, "config.json": _bytes_of(draw, data, 0, len(data))}


def lengths(draw: random.Random, files: Files, _: list[Files]) -> Files:
    """Bytes removed, duplicated or inserted anywhere in either file."""
    name = draw.choice(list(files))
    data = files[name]
    a, b = sorted((draw.randrange(len(data) + 1), draw.randrange(len(data) + 1)))
    return {
        **files,
        name: draw.choice((data[:a], data[:a] + data[b:], data[:b] + data[a:], data[:a] + b"\0" * 8 + data[a:])),
    }


def config_lies(draw: random.Random, files: Files, _: list[Files]) -> Files:
    """A well-formed config.json in which one to three values are wrong."""
    config = json.loads(files["config.json"])
    for _i in range(draw.choice((1, 1, 2, 3))):
        _lie(draw, config)
    return {**files, "config.json": json.dumps(config).encode()}


def header_lies(draw: random.Random, files: Files, _: list[Files]) -> Files:
    """A well-formed header in which one or two values are wrong."""
    parts = Parts(files)
    parts.container()
    for _i in range(draw.choice((1, 2))):
        _lie(draw, parts.header)
    return {**files, "model.safetensors": parts.container(relocate=False)}


def consistent_lies(draw: random.Random, files: Files, _: list[Files]) -> Files:
    """Tensors of other lengths in a consistent container, with a config that may be wrong as well."""
    parts = Parts(files)
    for _i in range(draw.choice((1, 1, 2))):
        name = draw.choice(list(parts.data))
        data, dtype = bytes(parts.data[name]), parts.header[name]["dtype"]
        size = {"F32": 4, "F16": 2, "BF16": 2}.get(dtype, 1)
        count = max(0, len(data) // size + draw.choice((-2, -1, -1, 1, 1, 2, 8, -len(data))))
        filler = draw.choice((b"\0", b"\xff", bytes([draw.randrange(256)])))
        parts.data[name] = bytearray((data + filler * (count * size))[: count * size])
        parts.header[name]["shape"] = [count]
    if draw.random() < 0.7:
        _lie(draw, parts.modules[""]["w"])
    return parts.files()


def strangers(draw: random.Random, files: Files, sources: list[Files]) -> Files:
    """The config of one checkpoint with the tensors of another."""
    return {**files, "model.safetensors": draw.choice(sources)["model.safetensors"]}


KINDS: tuple[tuple[Callable[[random.Random, Files, list[Files]], Files], int], ...] = (
    (payload_bytes, 8), (header_bytes, 2), (config_bytes, 2), (lengths, 2), (config_lies, 6), (header_lies, 3),
    (consistent_lies, 6), (strangers, 1),
)  # fmt: skip


def _lie(draw: random.Random, value: object) -> None:
    """Replace a random leaf of a JSON value, or drop, rename or repeat a key."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = draw.choice(keys)
        child = value[key]
        if isinstance(child, dict | list) and child and draw.random() < 0.9:
            value = child
            continue
        if isinstance(value, dict) and draw.random() < 0.1:
            moved = value.pop(key)
            if draw.random() < 0.5:
                value[draw.choice(TEXTS)] = moved
            return
        value[key] = _other(draw, child)
        return


def _other(draw: random.Random, value: object) -> object:
    if draw.random() < 0.1:
        return copy.deepcopy(
            draw.choice(OTHERS)
        )  # or a later change would affect shared values, or insert a value into itself
    if isinstance(value, int):
        return draw.choice((value + 1, value - 1, value * 2, draw.choice(NUMBERS)))
    return draw.choice(TEXTS)
