"""A good checkpoint taken apart, so that a test can bend one thing and show how it is refused."""

import json
import struct
import tracemalloc

import numpy as np
import pytest
from samples import packed

from tilewright.errors import FormatError
from tilewright.formats import StoredWeight, read_checkpoint_bytes, write_checkpoint

WEIGHTS = {
    "nm": ("2:4", (4, 10)),
    "far": ("3:100", (4, 130)),
    "any": ("any@90%", (8, 40)),
    "holes": ("any@3%", (8, 40)),
    "bits": ("any@50%", (8, 20)),
    "tw": ("tw2@75%", (8, 20)),
    "tew": ("tew2@70%+5%", (8, 20)),
    "tvw": ("tvw4@75%", (8, 22)),
    "block": ("block2x3@50%", (7, 20)),
}


class Parts:
    """A checkpoint taken apart, so that a test can change one thing and put it together again."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.config = json.loads(files["config.json"])
        data = files["model.safetensors"]
        (length,) = struct.unpack("<Q", data[:8])
        self.header = json.loads(data[8 : 8 + length])
        payload = data[8 + length :]
        self.metadata = self.header.pop("__metadata__")
        self.data = {name: bytearray(payload[slice(*e["data_offsets"])]) for name, e in self.header.items()}

    @property
    def modules(self):
        return self.config["quantization_config"]["modules"]

    def entry(self, name):
        return self.modules[name]["weight"]

    def put(self, name, data, dtype="U8"):
        size = {"U8": 1, "F32": 4, "F16": 2, "I8": 1}[dtype]
        self.header[name] = {"dtype": dtype, "shape": [len(data) // size], "data_offsets": [0, 0]}
        self.data[name] = bytearray(data)

    def container(self, relocate=True):
        start = 0
        for name, data in self.data.items() if relocate else ():
            self.header[name]["data_offsets"] = [start, start + len(data)]
            start += len(data)
        text = json.dumps({"__metadata__": self.metadata, **self.header}).encode()
        return struct.pack("<Q", len(text)) + text + b"".join(bytes(d) for d in self.data.values())

    def files(self, relocate=True):
        return {"config.json": json.dumps(self.config).encode(), "model.safetensors": self.container(relocate)}


def good_files(folder):
    """The files of a checkpoint with one weight of each kind in WEIGHTS."""
    weights = {f"{n}.weight": StoredWeight(packed(text, shape, 3)) for n, (text, shape) in WEIGHTS.items()}
    write_checkpoint(folder, weights, {"bias": np.zeros(3, dtype=np.float32)}, {})
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refused(files, message):
    """Check that the files are rejected with this message, without allocating much."""
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=message) as caught:
            read_checkpoint_bytes(files)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20, f"{peak} bytes were allocated on the way to: {caught.value}"
    assert len(str(caught.value)) < 700
