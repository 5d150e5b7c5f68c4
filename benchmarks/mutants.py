"""Change the code in small ways and count the changes that a room's tests notice.

Run as ``make mutants``, or ``python benchmarks/mutants.py [ROOM ...] [--drawn N] [--seed N] [--again]``. A seeded sample of each room's
mutants is drawn and tried; results are stored in ``build/mutants``, so that an interrupted run resumes. ``--again`` tries survivors again
after tests were added. Once all drawn mutants of the rooms have a result, and every survivor has a reason in ``mutant_reasons.toml``, the
rooms' records in ``benchmarks/records/mutants.jsonl`` are replaced, and ``python benchmarks/tables.py`` puts them into
docs/explanation/mutation.md.
"""

import argparse
import importlib
import sys
import time
import tomllib
from importlib.metadata import version
from pathlib import Path

from _mutant_draw import Mutant, draw, mutants
from _mutant_run import ROOT, Trial
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkItem, WorkResult


def tests(pattern: str, *blind: str) -> list[str]:
    """Return test files, except those that cannot see a change because they only start other processes."""
    return [str(path.relative_to(ROOT)) for path in sorted((ROOT / "tests").glob(pattern)) if path.stem not in blind]


SLOW = ("numpy", "hypothesis", "torch")
"""Modules imported once, before the forks; none of tilewright's may be among them."""
ROOMS = {
    "patterns": ("src/tilewright/patterns", tests("patterns/test_*.py"), SLOW),
    "formats": (
        "src/tilewright/formats",
        tests("formats/test_*.py", "test_killed"),
        (*SLOW, "safetensors.torch", "compressed_tensors"),
    ),
    "kernels": ("src/tilewright/kernels", tests("kernels/test_*.py"), SLOW),
    "runtime": (
        "src/tilewright/runtime",
        tests("runtime/test_*.py", "test_unaware"),
        (*SLOW, "transformers", "sentence_transformers"),
    ),
    "hardware/golden": (
        "src/tilewright/hardware/golden",
        tests("hardware/test_golden_*.py"),
        (*SLOW, "transformers", "sentence_transformers"),
    ),
}
SESSIONS = ROOT / "build" / "mutants"
RECORDS = ROOT / "benchmarks" / "records" / "mutants.jsonl"
REASONS = ROOT / "benchmarks" / "mutant_reasons.toml"


def _place(room: str) -> Path:
    place = SESSIONS / room.replace("/", "-")
    place.mkdir(parents=True, exist_ok=True)
    return place


def item(mutant: Mutant) -> WorkItem:
    """Return a mutant as a work item of a cosmic-ray session."""
    place = (mutant.line, 0), (mutant.line, 1)
    return WorkItem.single(mutant.name, MutationSpec(mutant.path, mutant.operator, mutant.occurrence, *place))


def results(session: WorkDB) -> dict[str, WorkResult]:
    """Return the results so far, by name of the mutant."""
    return dict(session.results)


def try_room(room: str, drawn: list[Mutant], session: WorkDB, *, again: bool) -> None:
    """Try the mutants of a room that have no result yet and, with `again`, those that survived."""
    known = results(session)
    stored = {work.job_id for work in session.work_items}
    session.add_work_items(item(mutant) for mutant in drawn if mutant.name not in stored)
    waiting = [m for m in drawn if m.name not in known or (again and not known[m.name].is_killed)]
    if not waiting:
        return
    folder, files, slow = ROOMS[room]
    here = str(Path(__file__).parent)
    # transformers would mistake our kernels.py for the package of that name.
    sys.path[:] = [place for place in sys.path if place != here]
    for name in slow:
        importlib.import_module(name)
    trial = Trial(folder, files, _place(room))
    for number, mutant in enumerate(waiting, 1):
        start = time.monotonic()
        killer = trial.killer(mutant)
        outcome = TestOutcome.SURVIVED if killer is None else TestOutcome.KILLED
        session.set_result(mutant.name, WorkResult(WorkerOutcome.NORMAL, killer or "", outcome, mutant.change))
        verdict = f"killed by {killer}" if killer else "SURVIVED"
        print(
            f"{room} {number}/{len(waiting)} {time.monotonic() - start:.1f} s {mutant.path}:{mutant.line} {mutant.change}: {verdict}",
            flush=True,
        )
    trial.close()


def record(room: str, drawn: list[Mutant], size: int, seed: int, known: dict[str, WorkResult]) -> None:
    """Replace a room's record: the score, and every survivor with its reason."""
    from tilewright.records import Record, read_records, write_record

    reasons = {(r["path"], r["change"]): r["reason"] for r in tomllib.loads(REASONS.read_text())["survivor"]}
    survivors, missing = [], []
    for mutant in drawn:
        if not known[mutant.name].is_killed:
            reason = reasons.get((mutant.path, mutant.change))
            survivors.append({"path": mutant.path, "change": mutant.change, "reason": reason})
            missing += [] if reason else [f"{mutant.path}:{mutant.line} {mutant.change}"]
    if missing:
        raise SystemExit(f"{len(missing)} survivors have no reason in {REASONS.name}:\n" + "\n".join(missing))
    record = Record.measure(
        "mutants",
        room,
        1 - len(survivors) / len(drawn),
        "1",
        inputs={"folder": ROOMS[room][0], "mutants": size, "drawn": len(drawn)},
        seed=seed,
        checked=True,
        extra={"survivors": survivors, "cosmic-ray": version("cosmic-ray")},
    )
    others = [old for old in read_records(RECORDS) if old.name != room] if RECORDS.exists() else []
    RECORDS.unlink(missing_ok=True)
    for line in sorted([*others, record], key=lambda line: list(ROOMS).index(line.name)):
        write_record(RECORDS, line)


def main() -> None:
    """Draw, try and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rooms", nargs="*", help=f"rooms: {', '.join(ROOMS)}; default: all")
    parser.add_argument("--drawn", type=int, default=60, help="number of mutants drawn per room")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw")
    parser.add_argument("--again", action="store_true", help="try survivors again")
    options = parser.parse_args()
    outcomes = []
    for room in options.rooms or ROOMS:
        whole = mutants(ROOMS[room][0])
        drawn = draw(whole, options.drawn, options.seed)
        with use_db(str(_place(room) / "session.sqlite")) as session:
            try_room(room, drawn, session, again=options.again)
            outcomes.append((room, drawn, len(whole), options.seed, results(session)))
    for room, drawn, size, seed, known in outcomes:
        print(f"{room}: {sum(known[mutant.name].is_killed for mutant in drawn)} of {len(drawn)} killed", flush=True)
        record(room, drawn, size, seed, known)


if __name__ == "__main__":
    main()
