"""Header and rows of the tables about simulation, for benchmarks/tables.py."""

from collections.abc import Sequence

from tilewright.records import Record

Table = tuple[Sequence[str], Sequence[Sequence[object]]]


def minilm(records: Sequence[Record]) -> Table:
    """Return a packed MiniLM on every machine, batch 32."""
    chosen = [r for r in records if r.kind == "simulated" and r.inputs["batch"] == 32]
    rows = [
        [
            f"`{r.inputs['pattern']}`",
            r.inputs["machine"],
            r.extra["dtype"],
            f"{r.median * 1e3:.3g}",
            f"{_number(r, 'ms, low'):.3g} to {_number(r, 'ms, high'):.3g}",
            f"{_number(r, 'over dense'):.2f}x",
            f"{_number(r, 'samples/s'):,.0f}",
            r.extra["largest loss"],
        ]
        for r in chosen
    ]
    return ("pattern", "machine", "type", "ms", "interval", "over dense", "samples/s", "largest loss"), rows


def costs(records: Sequence[Record]) -> Table:
    """Return the time that simulation takes, in seconds, over all machines."""
    networks: dict[str, list[float]] = {}
    for r in records:
        if r.kind == "simulation cost":
            networks.setdefault(r.name.partition(" on ")[0], []).append(r.median)
    rows = [[f"`{name}`", f"{min(seconds):.2f}", f"{max(seconds):.2f}"] for name, seconds in networks.items()]
    return ("network, batch 8, interval included", "fastest machine, s", "slowest, s"), rows


def alone(records: Sequence[Record]) -> Table:
    """Return the time and memory of a process that does nothing else."""
    memory = {r.name: r.median for r in records if r.kind == "simulation memory"}
    rows = [[r.name, f"{r.median:.1f}", f"{memory[r.name] / 1e6:.0f}"] for r in records if r.kind == "simulation time"]
    return ("batch 8", "s", "most memory held, MB"), rows


def fidelity(records: Sequence[Record]) -> Table:
    """Return the largest difference between the analytical level and tile events, by machine."""
    machines: dict[str, list[Record]] = {}
    for r in records:
        machines.setdefault(r.name.partition(" on ")[2], []).append(r)
    rows = [
        [
            f"`{name}`",
            sum(int(_number(r, "layers")) for r in members),
            f"{max(_number(r, 'worst, compute') for r in members):.2%}",
            f"{max(_number(r, 'worst, memory') for r in members):.2%}",
        ]
        for name, members in machines.items()
        if not name.endswith("-dense")
    ]
    return ("machine", "layers", "worst, bound by lanes", "worst, bound by DRAM"), rows


def _number(record: Record, key: str) -> float:
    return float(str(record.extra[key]))
