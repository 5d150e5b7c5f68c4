"""The sentence at the top of a report, and the few large figures under it. Every number comes from a record."""

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
    """One large figure: the number, what it is, and a line of context."""

    value: str
    title: str
    note: str


@dataclass(frozen=True)
class _Speed:
    """Speed over the best dense engine for one batch."""

    what: str
    ratio: float
    sentences: object
    engine: str


def headline(records: Sequence[Record]) -> str | None:
    """Say in one sentence what was achieved, or None where no record tells."""
    parts = []
    kept = _quality(records)
    if kept:
        name, final, _ = kept
        parts.append(
            f"the {final.name} model keeps {percent(final.share or 0.0)}{_interval(final)} of the dense {name}"
        )
    speeds = _speeds(records, "encode") or _speeds(records, "linear")
    if speeds:
        # The smallest batch stands beside the largest: a model that wins on one and loses on the other says both.
        chosen = [speeds[-1]] if len(speeds) == 1 else [speeds[-1], speeds[0]]
        each = " and ".join(f"{_sentences(s.sentences)} at {times(s.ratio)}" for s in chosen)
        verb = "encodes" if speeds[0].what == "encode" else "runs its sparse linear layers on"
        parts.append(f"{verb} {each} the speed of the best dense engine")
    room = _size(records)
    if room:
        what, share, _, _ = room
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
    found = []
    kept = _quality(records)
    if kept:
        name, final, dense = kept
        note = f"{number(final.measured.median)} against {number(dense.measured.median)}"
        if final.interval:
            note += f"; 95 % interval {share_range(final.interval.low, final.interval.high)}"
        found.append(Figure(percent(final.share or 0.0), f"of dense {name}", note))
    for what, title in (("encode", "whole model"), ("linear", "sparse linear layers")):
        speeds = _speeds(records, what)
        if speeds:
            last = speeds[-1]
            found.append(
                Figure(times(last.ratio), f"speed, {title}", f"{_sentences(last.sentences)}, best dense: {last.engine}")
            )
    room = _size(records)
    if room:
        what, share, before, after = room
        unit = f"{after.median / 1e6:.1f} against {before.median / 1e6:.1f} MB"
        found.append(Figure(percent(share), f"of dense {what}", unit))
    return tuple(found)


def _quality(records: Sequence[Record]) -> tuple[str, Stage, Stage] | None:
    """Pick the measure people rank by: MRR, then recall@1, then the first that has a dense value. Its name, its last stage, and dense."""
    names = dict.fromkeys(["mrr", "recall@1", *(r.name for r in records if r.kind == "quality")])
    for name in names:
        stages = {stage.name: stage for stage in quality_stages(records, name)}
        final = next((stages[s] for s in _FINAL_STAGES if s in stages), None)
        if final and final.share is not None and stages["dense"].measured.median > 0:
            return metric_title(name), final, stages["dense"]
    return None


def _speeds(records: Iterable[Record], what: str) -> list[_Speed]:
    """Return the speed of each batch that has both sides, smallest batch first, on the fewest threads measured."""
    mine = [r for r in records if r.kind == "latency" and r.name == what and r.checked]
    found: dict[int, list[_Speed]] = {}
    for (threads, sentences, _), batch in by_inputs(mine, "threads", "sentences", "tokens").items():
        best = best_dense(batch.records)
        sparse = by_inputs((r for r in batch.records if r.inputs.get("model") == "sparse"), "engine")
        if best and sparse:
            fastest = min(m.median for m in sparse.values())
            if fastest > 0:
                speed = _Speed(what, best[1].median / fastest, sentences, engine_title(best[0]))
                found.setdefault(_as_int(threads), []).append(speed)
    return sorted(found[min(found)], key=lambda s: _as_int(s.sentences)) if found else []


def _size(records: Sequence[Record]) -> tuple[str, float, Measured, Measured] | None:
    for name, title in (("disk", "size on disk"), ("weights", "size of the weights"), ("memory", "memory")):
        found = by_inputs((r for r in records if r.kind == "size" and r.name == name), "model")
        dense, sparse = found.get(("dense",)), found.get(("sparse",)) or found.get(("packed",))
        if dense and sparse and dense.median > 0:
            return title, sparse.median / dense.median, dense, sparse
    return None


def _interval(stage: Stage) -> str:
    return f" ({share_range(stage.interval.low, stage.interval.high)})" if stage.interval else ""


def _sentences(count: object) -> str:
    return "a batch" if count is None else f"{number(count)} sentence{'' if count == 1 else 's'}"


def _as_int(value: object) -> int:
    return value if isinstance(value, int) else 0
