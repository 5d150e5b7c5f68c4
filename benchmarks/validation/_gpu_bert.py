"""BERT-base as PyTorch runs it on a GPU: the kernels of one layer, eager or compiled, dense or 2:4.

The tutorial runs its dense model under autocast with float32 weights and float32 residuals, and its 2:4 model in float16 throughout; both
pad to 384 tokens. The 2:4 kernel of PyTorch's CUTLASS back end leaves its result transposed, so that what reads it next beside another
operand, or needs rows, reads against the grain ("strided").
"""

from collections.abc import Iterator
from dataclasses import dataclass

from _shapes import weight

from tilewright.hardware import AcceleratorSpec, Operation
from tilewright.hardware.engines.tensor_core import run, run_kernels
from tilewright.patterns import NM

LAYERS, HIDDEN, INNER, HEADS, TOKENS = 12, 768, 3072, 12, 384
COMPILED_STRIDED = 0.57
"""Share of a copy's rate that kernels with tiles along both axes reach: a transpose through shared memory without padding, as measured at
sjang1594.github.io/portfolio/cuda-image-transposed (naive: 0.32). Not fitted."""


@dataclass(frozen=True)
class Kernel:
    """One kernel: a product, or bytes moved; of those, the share that goes against the grain."""

    operation: Operation
    strided: float = 0.0


@dataclass(frozen=True)
class Layer:
    """Seconds of one layer's kernels by what they do, and how many there are."""

    products: float
    streams: float
    strided: float
    launches: float
    kernels: int
    sparse_products: int


def moved(name: str, reads: int, writes: int, *, strided: float = 0.0) -> Kernel:
    """Return a kernel by the bytes it reads and writes."""
    return Kernel(Operation(name, "elementwise", function=name, reads=reads // 2, writes=writes // 2), strided)


def products(batch: int, sparse: bool) -> dict[str, Kernel]:
    """Return the products of a layer by name."""
    M, copies, head = batch * TOKENS, batch * HEADS, HIDDEN // HEADS
    pattern = NM(2, 4) if sparse else None
    found = {
        name: Kernel(Operation(name, "linear", M=M, N=N, K=K, weight=weight(N, K, pattern)))
        for name, N, K in (("side", HIDDEN, HIDDEN), ("up", INNER, HIDDEN), ("down", HIDDEN, INNER))
    }
    found["scores"] = Kernel(Operation("scores", "matmul", M=TOKENS, N=TOKENS, K=head, copies=copies))
    found["context"] = Kernel(Operation("context", "matmul", M=TOKENS, N=head, K=TOKENS, copies=copies))
    return found


def eager(batch: int, sparse: bool) -> Iterator[Kernel]:
    """Yield the kernels of a layer in eager mode."""
    p = products(batch, sparse)
    hidden, inner = batch * TOKENS * HIDDEN, batch * TOKENS * INNER
    scores = batch * HEADS * TOKENS * TOKENS
    wide = 2 if sparse else 4  # bytes of residuals and scores after the mask
    if (
        not sparse
    ):  # autocast: the input of query, key, value and of the first feed-forward product, and the probabilities
        yield from 4 * [moved("cast", 4 * hidden, 2 * hidden)]
        yield moved("cast", 4 * scores, 2 * scores)
    yield from 3 * [p["side"]]
    yield from 3 * [moved("heads", 2 * hidden, 2 * hidden, strided=sparse)]
    yield from (p["scores"], moved("divide", 2 * scores, 2 * scores), moved("mask", 2 * scores, wide * scores))
    yield from (moved("softmax", wide * scores, wide * scores), p["context"], moved("heads", 2 * hidden, 2 * hidden))
    for before in ((p["side"],), (p["up"], moved("gelu", 2 * inner, 2 * inner), p["down"])):
        yield from before
        yield moved("add", (2 + wide) * hidden, wide * hidden, strided=sparse)
        if sparse:
            yield moved("contiguous", 2 * hidden, 2 * hidden, strided=1.0)
        yield moved("norm", wide * hidden, wide * hidden)


def compiled(batch: int, sparse: bool) -> Iterator[Kernel]:
    """Yield the kernels of a layer after torch.compile: chains of element-wise operations, casts and norms are one kernel each."""
    p = products(batch, sparse)
    hidden, inner = batch * TOKENS * HIDDEN, batch * TOKENS * INNER
    scores = batch * HEADS * TOKENS * TOKENS
    residual = 2 * hidden if sparse else 4 * hidden
    yield from 3 * [p["side"]]
    yield from 3 * [moved("heads", 2 * hidden, 2 * hidden, strided=sparse)]
    yield from (
        p["scores"],
        moved("softmax", 2 * scores, 2 * scores),
        p["context"],
        moved("heads", 2 * hidden, 2 * hidden),
    )
    for before in ((p["side"],), (p["up"], moved("gelu", 2 * inner, 2 * inner), p["down"])):
        yield from before
        # The product's result is one of the norm's three streams of 16 bits where all is float16.
        yield moved("norm", 2 * hidden + residual, residual + (0 if sparse else 2 * hidden), strided=sparse / 3)


def layer(spec: AcceleratorSpec, mode: str, batch: int, sparse: bool) -> Layer:
    """Return the time of one layer's kernels."""
    times = {"products": 0.0, "streams": 0.0, "strided": 0.0, "launches": 0.0}
    kernels = list((eager if mode == "eager" else compiled)(batch, sparse))
    for kernel in kernels:
        timed = run_kernels if kernel.operation.is_product else run  # 2:4 as it was measured, be it the slower one
        result = timed(spec, kernel.operation, "float16", "analytical")
        seconds = {cause: cycles / float(spec.clock) for cause, cycles in result.causes.items()}
        launch = seconds.get("launch", 0.0)
        busy = sum(seconds.values()) - launch
        times["launches"] += launch
        if kernel.operation.is_product:
            times["products"] += busy
        else:
            times["strided"] += busy * kernel.strided
            times["streams"] += busy * (1 - kernel.strided)
    products_ = sum(kernel.operation.weight is not None for kernel in kernels)
    return Layer(**times, kernels=len(kernels), sparse_products=products_ if sparse else 0)


@dataclass(frozen=True)
class Framework:
    """What PyTorch adds: shares of the DRAM rate that its kernels reach, and the host's seconds a kernel and a 2:4 product."""

    stream: float
    strided: float
    host: float
    host_sparse: float

    def seconds(self, spec: AcceleratorSpec, mode: str, batch: int, sparse: bool) -> tuple[float, float]:
        """Return the seconds of the GPU and of the host for a forward pass; the slower of the two is the time."""
        one = layer(spec, mode, batch, sparse)
        stream, strided = (self.stream, self.strided) if mode == "eager" else (1.0, COMPILED_STRIDED)
        gpu = one.products + one.launches + one.streams / stream + one.strided / strided
        wrapped = one.sparse_products if mode == "eager" else 0
        host = (one.kernels - wrapped) * self.host + wrapped * self.host_sparse
        return LAYERS * gpu, LAYERS * host


def fitted(spec: AcceleratorSpec, published: dict[int, tuple[float, float]]) -> Framework:
    """Return the four numbers from the eager times of batch 4 (host) and batch 64 (GPU)."""
    few, dense, sparse = (
        (layer(spec, "eager", 4, s) for s in (False, True)),
        *(layer(spec, "eager", 64, s) for s in (False, True)),
    )
    few_dense, few_sparse = few
    host = published[4][0] / 1e3 / LAYERS / few_dense.kernels
    plain = few_sparse.kernels - few_sparse.sparse_products
    wrapped = (published[4][1] / 1e3 / LAYERS - plain * host) / few_sparse.sparse_products
    stream = dense.streams / (published[64][0] / 1e3 / LAYERS - dense.products - dense.launches)
    left = published[64][1] / 1e3 / LAYERS - sparse.products - sparse.launches - sparse.streams / stream
    return Framework(stream, sparse.strided / left, host, wrapped)
