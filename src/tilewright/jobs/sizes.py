"""What a model takes on disk and in memory, dense and packed."""

from collections.abc import Iterator
from pathlib import Path

from torch import nn

from ..formats import read_checkpoint
from ..records import Record

__all__ = ["size_records", "weights_ratio"]

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


def size_records(checkpoint: Path, dense: nn.Module, loaded: nn.Module) -> Iterator[Record]:
    """Yield the sizes of a packed checkpoint and its loaded model beside the dense ones.

    ``weights``: the pruned weights on disk, values and index, against the same weights dense in the same value type. ``disk``: all
    tensors of the file. ``memory``: all parameters and buffers in memory; layers that run dense count as dense.
    """
    stored = read_checkpoint(checkpoint)
    on_disk = sum(f.stat().st_size for f in checkpoint.glob("*.safetensors"))
    plain = sum(_BYTES[w.packed.dtype] * w.packed.shape[0] * w.packed.shape[1] for w in stored.weights.values())
    rest = sum(len(raw.data) for raw in stored.dense.values())
    sizes = {
        ("weights", "dense"): plain,
        ("weights", "sparse"): on_disk - rest,  # the header and the padding are on the packed weights' account
        ("disk", "dense"): plain + rest,
        ("disk", "sparse"): on_disk,
        ("memory", "dense"): _memory(dense),
        ("memory", "sparse"): _memory(loaded),
    }
    for (name, model), size in sizes.items():
        yield Record.measure("size", name, size, "bytes", inputs={"model": model}, checked=True)


def weights_ratio(records: list[Record]) -> float:
    """Return the packed over the dense bytes of the pruned weights."""
    size = {r.inputs["model"]: r.median for r in records if r.kind == "size" and r.name == "weights"}
    return size["sparse"] / size["dense"]


def _memory(model: nn.Module) -> int:
    seen = {t.data_ptr(): t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers())}
    return sum(seen.values())
