"""Header and rows of the tables about mutants, for benchmarks/tables.py."""

from collections.abc import Mapping, Sequence

from tilewright.records import Record

Table = tuple[Sequence[str], Sequence[Sequence[object]]]


def scores(records: Sequence[Record]) -> Table:
    """Return the mutants, the sample and the score of each room."""
    rows = []
    for r in records:
        listed, drawn = _survivors(r), int(str(r.inputs["drawn"]))
        same = sum(str(survivor["reason"]).startswith("equivalent") for survivor in listed)
        killed = drawn - len(listed)
        score = f"{killed / drawn:.0%}"
        rows.append([f"`{r.name}`", r.inputs["mutants"], drawn, killed, score, same, f"{killed / (drawn - same):.0%}"])
    return ("room", "mutants", "drawn", "killed", "of all drawn", "equivalent", "of the others"), rows


def survivors(records: Sequence[Record]) -> Table:
    """Return every survivor with its reason."""
    rows = []
    for r in records:
        for survivor in _survivors(r):
            file = str(survivor["path"]).removeprefix("src/tilewright/")
            rows.append([f"`{file}`", _code(str(survivor["change"])), survivor["reason"]])
    return ("file", "change", "why no test notices"), rows


def _survivors(record: Record) -> list[Mapping[str, object]]:
    listed = record.extra["survivors"]
    assert isinstance(listed, list)
    return listed


def _code(change: str) -> str:
    """Return code formatted for a table cell."""
    return "`` " + change.replace("|", "\\|") + " ``"
