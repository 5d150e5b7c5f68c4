"""Networks of the published results with pruned weights, and their time on an array engine."""

from dataclasses import dataclass

from tilewright.hardware import AcceleratorSpec, Operation, OperationResult, WeightView, workload
from tilewright.hardware.engines import ENGINES, visible
from tilewright.patterns import NM


@dataclass(frozen=True)
class Run:
    """A network on one chip, one sub-batch."""

    seconds: float
    products: int
    vector: int
    joules: float
    macs: int
    useful: int
    results: tuple[OperationResult, ...]


def weight(outputs: int, inputs: int, pattern: NM | None) -> WeightView:
    """Return the view of a weight: dense without a pattern."""
    return WeightView.dense(outputs, inputs) if pattern is None else WeightView.expected(pattern, outputs, inputs)


def encoder(
    batch: int, tokens: int, layers: int, hidden: int, heads: int, inner: int, pattern: NM | None
) -> list[Operation]:
    """Return the encoder layers of a BERT: all six weights of a layer follow the pattern, attention products have none."""
    M, copies = batch * tokens, batch * heads
    found: list[Operation] = []

    def linear(name: str, outputs: int, inputs: int) -> None:
        view = weight(outputs, inputs, pattern)
        found.append(
            Operation(name, "linear", M=M, N=outputs, K=inputs, weight=view, reads=M * inputs, writes=M * outputs)
        )

    def element(name: str, function: str, kind: str, reads: int, writes: int, row: int = 0) -> None:
        found.append(Operation(name, kind, function=function, reads=reads, writes=writes, row=row))  # type: ignore[arg-type]

    def add_norm(name: str) -> None:
        element(f"{name}.add", "add", "elementwise", 2 * M * hidden, M * hidden)
        element(f"{name}.norm", "layer_norm", "norm", M * hidden, M * hidden, hidden)

    scores, head = copies * tokens * tokens, hidden // heads
    for layer in range(layers):
        for part in ("query", "key", "value"):
            linear(f"{layer}.{part}", hidden, hidden)
        found.append(
            Operation(
                f"{layer}.scores",
                "matmul",
                M=tokens,
                N=tokens,
                K=head,
                copies=copies,
                reads=2 * M * hidden,
                writes=scores,
            )
        )
        element(f"{layer}.softmax", "softmax", "softmax", scores, scores, tokens)
        found.append(
            Operation(
                f"{layer}.context",
                "matmul",
                M=tokens,
                N=head,
                K=tokens,
                copies=copies,
                reads=scores + M * hidden,
                writes=M * hidden,
            )
        )
        linear(f"{layer}.out", hidden, hidden)
        add_norm(f"{layer}.attention")
        linear(f"{layer}.up", inner, hidden)
        element(f"{layer}.gelu", "gelu", "elementwise", M * inner, M * inner)
        linear(f"{layer}.down", hidden, inner)
        add_norm(f"{layer}.feed")
    return found


def known(name: str, batch: int, pattern: NM | None, sequence: int | None = None) -> list[Operation]:
    """Return a network of `tilewright.hardware.networks` whose weights follow a pattern, but for convolutions of pictures and classifiers."""
    network = workload(name, batch, sequence)
    return [
        o
        if o.weight is None or (o.kind == "conv" and not o.inputs) or o.name.startswith("classifier")
        else o.with_weight(weight(o.N, o.K, pattern))
        for o in network
    ]


def run(spec: AcceleratorSpec, operations: list[Operation], dtype: str, fidelity: str = "tiles") -> Run:
    """Return the time of a list of operations on one chip, vector work hidden where the engine says so."""
    engine = ENGINES[spec.engine]
    known: dict[object, OperationResult] = {}
    results = []
    for o in operations:
        view = o.weight
        key = (o.kind, o.function, o.M, o.N, o.K, o.copies, o.reads, o.writes, view and (view.pattern, view.kept))
        if key not in known:
            known[key] = engine(spec, o, dtype, fidelity)  # type: ignore[arg-type]
        results.append(known[key])
    shown = visible(spec, operations, [r.cycles for r in results])
    products = sum(count for count, o in zip(shown, operations, strict=True) if o.is_product)
    cycles = sum(shown)
    static = float(spec.energy["static"])
    joules = sum(sum(v for part, v in r.joules.items() if part != "static") for r in results)
    seconds = cycles / float(spec.clock)
    macs, useful = (sum(getattr(o, name) for o in operations) for name in ("macs", "useful"))
    return Run(seconds, products, cycles - products, joules + static * seconds, macs, useful, tuple(results))
