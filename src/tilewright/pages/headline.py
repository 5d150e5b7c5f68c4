"""The headline of a report and the large figures below it. Every number comes from a record."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..records import Record
from .measured import Measured, best_dense, by_inputs
from .quality import Stage, quality_stages
from .wording import engine_title, metric_title, number, percent, share_range, times

__all__ = ["Figure", "figures", "headline"]

_FINAL_STAGES = ("packed", "recovered", "sparse", "pruned")


@dataclass(frozen=True)
class Figure:
    """A large figure: the number, its title, and a line of context."""

    value: str
    title: str
    note: str


@dataclass(frozen=True)
class _Speed:
    """Speed-up over the best dense engine for one batch."""

    what: str
    ratio: float
    sentences: object
    engine: str


def headline(records: Sequence[Record]) -> str | None:
    """Return what was achieved in one sentence, or None if no record says."""
    parts = []
    kept = _quality(records)
    if kept:
        name, final, _ = kept
        parts.append(
            f"the {final.name} model keeps {percent(final.share or 0.0)}{_interval(final)} of the dense {name}"
        )
    speeds = _speeds(records, "encode") or _speeds(records, "linear")
    if speeds:
        # State both the largest and the smallest batch, since a model may win on one and lose on the other.
        batches = [speeds[-1]] if len(speeds) == 1 else [speeds[-1], speeds[0]]
        ratios = " and ".join(f"{_sentences(s.sentences)} at {times(s.ratio)}" for s in batches)
        verb = "encodes" if speeds[0].what == "encode" else "runs its sparse linear layers on"
        parts.append(f"{verb} {ratios} the speed of the best dense engine")
    sizes = _size(records)
    if sizes:
        what, share, _, _ = sizes
        parts.append(f"takes {percent(share)} of the dense {what}")
    if not parts:
        return None
    if not kept:
        parts[0] = "the sparse model " + parts[0]
    sentence = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + ", and " + parts[-1]
    if len(parts) == 2:
        sentence = " and ".join(parts)
    return sentence[:1].upper() + sentence[1:] + "."


def figures(records: Sequence[Record]) -> tuple[Figure, ...]:
    """Return the large figures: quality, speed of the whole model and of its linear layers, size."""
    shown = []
    kept = _quality(records)
    if kept:
        name, final, dense = kept
        note = f"{number(final.measured.median)} against {number(dense.measured.median)}"
        if final.interval:
            note += f"; 95 % interval {share_range(final.interval.low, final.interval.high)}"
        shown.append(Figure(percent(final.share or 0.0), f"of dense {name}", note))
    for what, title in (("encode", "whole model"), ("linear", "sparse linear layers")):
        speeds = _speeds(records, what)
        if speeds:
            last = speeds[-1]
            shown.append(
                Figure(times(last.ratio), f"speed, {title}", f"{_sentences(last.sentences)}, best dense: {last.engine}")
            )
    sizes = _size(records)
    if sizes:
        what, share, before, after = sizes
        note = f"{after.median / 1e6:.1f} against {before.median / 1e6:.1f} MB"
        shown.append(Figure(percent(share), f"of dense {what}", note))
    return tuple(shown)


def _quality(records: Sequence[Record]) -> tuple[str, Stage, Stage] | None:
    """Return the main measure, its last stage and its dense stage: MRR, else recall@1, else the first with a dense value."""
    names = dict.fromkeys(["mrr", "recall@1", *(r.name for r in records if r.kind == "quality")])
    for name in names:
        stages = {stage.name: stage for stage in quality_stages(records, name)}
        final = next((stages[s] for s in _FINAL_STAGES if s in stages), None)
        if final and final.share is not None and stages["dense"].measured.median > 0:
            return metric_title(name), final, stages["dense"]
    return None


def _speeds(records: Iterable[Record], what: str) -> list[_Speed]:
    """Return the speed-up of each batch with sparse and dense timings, smallest first, at the fewest threads measured."""
    timings = [r for r in records if r.kind == "latency" and r.name == what and r.checked]
    speeds: dict[int, list[_Speed]] = {}
    for (threads, sentences, _), batch in by_inputs(timings, "threads", "sentences", "tokens").items():
        best = best_dense(batch.records)
        sparse = by_inputs((r for r in batch.records if r.inputs.get("model") == "sparse"), "engine")
        if best and sparse:
            fastest = min(m.median for m in sparse.values())
            if fastest > 0:
                speed = _Speed(what, best[1].median / fastest, sentences, engine_title(best[0]))
                speeds.setdefault(_as_int(threads), []).append(speed)
    return sorted(speeds[min(speeds)], key=lambda s: _as_int(s.sentences)) if speeds else []


def _size(records: Sequence[Record]) -> tuple[str, float, Measured, Measured] | None:
    for name, title in (("disk", "size on disk"), ("weights", "size of the weights"), ("memory", "memory")):
        sizes = by_inputs((r for r in records if r.kind == "size" and r.name == name), "model")
        dense, sparse = sizes.get(("dense",)), sizes.get(("sparse",)) or sizes.get(("packed",))
        if dense and sparse and dense.median > 0:
            return title, sparse.median / dense.median, dense, sparse
    return None


def _interval(stage: Stage) -> str:
    return f" ({share_range(stage.interval.low, stage.interval.high)})" if stage.interval else ""


def _sentences(count: object) -> str:
    return "a batch" if count is None else f"{number(count)} sentence{'' if count == 1 else 's'}"


def _as_int(value: object) -> int:
    return value if isinstance(value, int) else 0
