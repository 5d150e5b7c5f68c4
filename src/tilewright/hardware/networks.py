"""Well-known networks at full size, defined without torch: the same operations as capturing the models, in a millisecond.

Layers follow these classes of ``transformers``, with biases and batch norms folded into the products: `BertModel`,
`ViTModel`, `GPT2LMHeadModel` and `ResNetForImageClassification`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

from ..errors import ArgumentError, unknown
from .workload import Kind, Operation, WeightView, Workload

__all__ = ["NETWORKS", "workload"]

_LENGTH = 128


def workload(name: str, batch: int = 1, sequence: int | None = None) -> Workload:
    """Return a full-size network by name.

    Parameters
    ----------
    name
        One of `NETWORKS`.
    batch
        Batch size. Default: 1.
    sequence
        Tokens per sample. Default: 128. ``"vit-base"`` and ``"resnet50"`` take no sequence; their input is 224 x 224 pixels.

    Raises
    ------
    ArgumentError
        If the network is unknown, the batch is below 1, or the network does not take the sequence.

    Examples
    --------
    >>> round(workload("resnet50").macs / 1e9, 2), round(workload("bert-large", sequence=384).macs / 1e9, 1)
    (4.09, 123.2)
    """
    if name not in NETWORKS:
        raise ArgumentError(unknown("network", name, NETWORKS))
    if batch < 1:
        raise ArgumentError(f"batch must be at least 1, got {batch}")
    build, longest = _BUILDERS[name]
    if sequence is not None and not 1 <= sequence <= longest:
        takes = f"sequences of 1 to {longest} tokens" if longest else "images of 224 x 224 pixels, not sequences"
        raise ArgumentError(f"{name} takes {takes}, got {sequence} tokens")
    net = build(batch) if not longest else build(batch, sequence or _LENGTH)
    return Workload(name, tuple(net.operations), batch)


@dataclass
class _Net:
    """A list of operations; each method appends to it and returns the name of the last operation it added."""

    operations: list[Operation] = field(default_factory=list)

    def add(self, name: str, kind: Kind, inputs: Sequence[str], **fields: Any) -> str:
        self.operations.append(Operation(name, kind, inputs=tuple(dict.fromkeys(inputs)), **fields))
        return name

    def linear(self, name: str, tokens: int, outputs: int, inputs: int, after: str) -> str:
        sizes = {"M": tokens, "N": outputs, "K": inputs, "reads": tokens * inputs, "writes": tokens * outputs}
        return self.add(name, "linear", [after], weight=_dense(outputs, inputs), **sizes)

    def vector(self, name: str, kind: Kind, function: str, after: Sequence[str], size: int, **fields: Any) -> str:
        return self.add(name, kind, after, function=function, **({"reads": size, "writes": size} | fields))

    def attention(self, at: str, batch: int, tokens: int, heads: int, width: int, qkv: tuple[str, str, str]) -> str:
        x, scores = batch * tokens * heads * width, batch * heads * tokens * tokens
        copies, (query, key, value) = batch * heads, qkv
        sizes = {"M": tokens, "N": tokens, "K": width, "copies": copies, "reads": 2 * x, "writes": scores}
        qk = self.add(f"{at}.qk", "matmul", [query, key], **sizes)
        soft = self.vector(f"{at}.softmax", "softmax", "softmax", [qk], scores, row=tokens)
        sizes = {"M": tokens, "N": width, "K": tokens, "copies": copies, "reads": scores + x, "writes": x}
        return self.add(f"{at}.pv", "matmul", [value, soft], **sizes)


@dataclass(frozen=True)
class _Sizes:
    layers: int = 12
    hidden: int = 768
    heads: int = 12
    inner: int = 3072


def _bert(sizes: _Sizes, batch: int, tokens: int) -> _Net:
    net, rows, H, F = _Net(), batch * tokens, sizes.hidden, sizes.inner
    x = rows * H
    last = net.vector("embeddings.word_embeddings", "embedding", "embedding", [], x)
    last = net.vector("embeddings.add", "elementwise", "add", [last], x, reads=2 * x + tokens * H)
    last = net.vector("embeddings.LayerNorm", "norm", "layer_norm", [last], x, row=H)
    for layer in range(sizes.layers):
        at, before = f"encoder.layer.{layer}", last
        q, k, v = (net.linear(f"{at}.attention.self.{part}", rows, H, H, before) for part in ("query", "key", "value"))
        last = net.attention(f"{at}.attention.self", batch, tokens, sizes.heads, H // sizes.heads, (q, k, v))
        last = net.linear(f"{at}.attention.output.dense", rows, H, H, last)
        last = net.vector(f"{at}.attention.output.add", "elementwise", "add", [last, before], x, reads=2 * x)
        before = net.vector(f"{at}.attention.output.LayerNorm", "norm", "layer_norm", [last], x, row=H)
        last = net.linear(f"{at}.intermediate.dense", rows, F, H, before)
        last = net.vector(f"{at}.intermediate.intermediate_act_fn", "elementwise", "gelu", [last], rows * F)
        last = net.linear(f"{at}.output.dense", rows, H, F, last)
        last = net.vector(f"{at}.output.add", "elementwise", "add", [last, before], x, reads=2 * x)
        last = net.vector(f"{at}.output.LayerNorm", "norm", "layer_norm", [last], x, row=H)
    last = net.linear("pooler.dense", batch, H, H, last)
    net.vector("pooler.activation", "elementwise", "tanh", [last], batch * H)
    return net


def _vit(sizes: _Sizes, batch: int) -> _Net:
    net, patches, H, F = _Net(), 14 * 14, sizes.hidden, sizes.inner
    tokens, pixels = patches + 1, batch * 3 * 224 * 224
    rows = batch * tokens
    x = rows * H
    patched = {"M": batch * patches, "N": H, "K": 768, "reads": pixels, "writes": batch * patches * H}
    last = net.add("embeddings.patch_embeddings.projection", "conv", [], weight=_dense(H, 768), **patched)
    last = net.vector("embeddings.cat", "move", "cat", [last], x)
    last = net.vector("embeddings.add", "elementwise", "add", [last], x, reads=x + tokens * H)
    for layer in range(sizes.layers):
        at, before = f"layers.{layer}", last
        last = net.vector(f"{at}.layernorm_before", "norm", "layer_norm", [last], x, row=H)
        q, k, v = (net.linear(f"{at}.attention.{part}_proj", rows, H, H, last) for part in "qkv")
        last = net.attention(f"{at}.attention", batch, tokens, sizes.heads, H // sizes.heads, (q, k, v))
        last = net.linear(f"{at}.attention.o_proj", rows, H, H, last)
        before = net.vector(f"{at}.add", "elementwise", "add", [last, before], x, reads=2 * x)
        last = net.vector(f"{at}.layernorm_after", "norm", "layer_norm", [before], x, row=H)
        last = net.linear(f"{at}.mlp.fc1", rows, F, H, last)
        last = net.vector(f"{at}.mlp.activation_fn", "elementwise", "gelu", [last], rows * F)
        last = net.linear(f"{at}.mlp.fc2", rows, H, F, last)
        last = net.vector(f"{at}.add.2", "elementwise", "add", [last, before], x, reads=2 * x)
    last = net.vector("layernorm", "norm", "layer_norm", [last], x, row=H)
    last = net.linear("pooler.dense", batch, H, H, last)
    net.vector("pooler.activation", "elementwise", "tanh", [last], batch * H)
    return net


def _gpt2(sizes: _Sizes, batch: int, tokens: int) -> _Net:
    net, rows, H, F = _Net(), batch * tokens, sizes.hidden, sizes.inner
    x = rows * H
    last = net.vector("transformer.wte", "embedding", "embedding", [], x)
    last = net.vector("transformer.add", "elementwise", "add", [last], x, reads=x + tokens * H)
    for layer in range(sizes.layers):
        at, before = f"transformer.h.{layer}", last
        last = net.vector(f"{at}.ln_1", "norm", "layer_norm", [last], x, row=H)
        last = net.linear(f"{at}.attn.c_attn", rows, 3 * H, H, last)
        last = net.attention(f"{at}.attn", batch, tokens, sizes.heads, H // sizes.heads, (last, last, last))
        last = net.linear(f"{at}.attn.c_proj", rows, H, H, last)
        before = net.vector(f"{at}.add", "elementwise", "add", [last, before], x, reads=2 * x)
        last = net.vector(f"{at}.ln_2", "norm", "layer_norm", [before], x, row=H)
        last = net.linear(f"{at}.mlp.c_fc", rows, F, H, last)
        last = net.vector(f"{at}.mlp.act", "elementwise", "gelu", [last], rows * F)
        last = net.linear(f"{at}.mlp.c_proj", rows, H, F, last)
        last = net.vector(f"{at}.add.2", "elementwise", "add", [before, last], x, reads=2 * x)
    last = net.vector("transformer.ln_f", "norm", "layer_norm", [last], x, row=H)
    net.linear("lm_head", rows, 50257, H, last)
    return net


def _resnet50(batch: int) -> _Net:
    net = _Net()

    def conv(name: str, after: str, side: int, inputs: int, outputs: int, kernel: int, stride: int, relu: bool) -> str:
        """Add a convolution of square images with this side, and its ReLU."""
        pixels = batch * (side // stride) ** 2
        K = inputs * kernel * kernel
        sizes = {"M": pixels, "N": outputs, "K": K, "reads": batch * side * side * inputs, "writes": pixels * outputs}
        last = net.add(f"{name}.convolution", "conv", [after] if after else [], weight=_dense(outputs, K), **sizes)
        return net.vector(f"{name}.activation", "elementwise", "relu", [last], pixels * outputs) if relu else last

    last = conv("resnet.embedder.embedder", "", 224, 3, 64, 7, 2, True)
    size = batch * 64
    last = net.vector("resnet.embedder.pooler", "pool", "max_pool", [last], size * 112**2, writes=size * 56**2, row=9)
    side, inputs = 56, 64
    for stage, (blocks, width) in enumerate(zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True)):
        for block in range(blocks):
            at, before = f"resnet.encoder.stages.{stage}.layers.{block}", last
            stride = 2 if stage and not block else 1
            shortcut = (
                conv(f"{at}.shortcut", before, side, inputs, 4 * width, 1, stride, False) if not block else before
            )
            last = conv(f"{at}.layer.0", before, side, inputs, width, 1, 1, True)
            last = conv(f"{at}.layer.1", last, side, width, width, 3, stride, True)
            side, inputs = side // stride, 4 * width
            last = conv(f"{at}.layer.2", last, side, width, inputs, 1, 1, False)
            x = batch * side * side * inputs
            last = net.vector(f"{at}.add", "elementwise", "add", [last, shortcut], x, reads=2 * x)
    last = net.vector("resnet.pooler", "pool", "mean", [last], batch * 2048 * 49, writes=batch * 2048, row=49)
    net.linear("classifier.1", batch, 1000, 2048, last)
    return net


_BUILDERS: Mapping[str, tuple[Callable[..., _Net], int]] = {
    "bert-base": (partial(_bert, _Sizes()), 512),
    "bert-large": (partial(_bert, _Sizes(24, 1024, 16, 4096)), 512),
    "gpt2": (partial(_gpt2, _Sizes()), 1024),
    "resnet50": (_resnet50, 0),
    "vit-base": (partial(_vit, _Sizes()), 0),
}

NETWORKS: tuple[str, ...] = tuple(_BUILDERS)
"""The names that `workload` accepts."""


@cache
def _dense(outputs: int, inputs: int) -> WeightView:
    return WeightView.dense(outputs, inputs)
