"""Size of a model on disk and in memory, dense and packed."""

from collections.abc import Iterator
from pathlib import Path

from torch import nn

from ..formats import read_checkpoint
from ..records import Record

__all__ = ["size_records", "weights_ratio"]

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


def size_records(checkpoint: Path, dense: nn.Module, loaded: nn.Module) -> Iterator[Record]:
    """Yield the sizes of a packed checkpoint and its loaded model, each with the dense counterpart.

    ``weights``: the pruned weights on disk, values and index; dense, the same weights in the same value type. ``disk``: all tensors of
    the file. ``memory``: all parameters and buffers in memory; layers that run dense count as dense.
    """
    stored = read_checkpoint(checkpoint)
    on_disk = sum(f.stat().st_size for f in checkpoint.glob("*.safetensors"))
    plain = sum(_BYTES[w.packed.dtype] * w.packed.shape[0] * w.packed.shape[1] for w in stored.weights.values())
    rest = sum(len(raw.data) for raw in stored.dense.values())
    sizes = {
        ("weights", "dense"): plain,
        ("weights", "sparse"): on_disk - rest,  # the header and the padding count as part of the packed weights
        ("disk", "dense"): plain + rest,
        ("disk", "sparse"): on_disk,
        ("memory", "dense"): _memory(dense),
        ("memory", "sparse"): _memory(loaded),
    }
    for (name, model), size in sizes.items():
        yield Record.measure("size", name, size, "bytes", inputs={"model": model}, checked=True)


def weights_ratio(records: list[Record]) -> float:
    """Return the packed size of the pruned weights divided by their dense size."""
    size = {r.inputs["model"]: r.median for r in records if r.kind == "size" and r.name == "weights"}
    return size["sparse"] / size["dense"]


def _memory(model: nn.Module) -> int:
    seen = {t.data_ptr(): t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers())}
    return sum(seen.values())
