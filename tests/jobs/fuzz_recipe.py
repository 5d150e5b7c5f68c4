"""Feed damaged recipes to the reader.

    python tests/jobs/fuzz_recipe.py --mutants 100000 --seed 0

Each mutant must be refused with a `RecipeError` in a sentence, or give a recipe that spells itself out and reads back as itself.
Anything else, and more than `SECONDS` for one of them, stops the run with the mutant's number (`--only` repeats one) and exit code 1.
"""

import argparse
import copy
import itertools
import json
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from tilewright.errors import RecipeError
from tilewright.jobs.recipe.recipe import parse_recipe

EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS = 20
"""Processor time allowed for one mutant, in seconds."""

SCALARS = ("0", "-1", "1", "1e400", "1e-400", ".nan", ".inf", "-.inf", "0x", "0b_", "0o7", "1_0", "_", "~", "null", "true", "no", "''", '""', "2:4", "2:4x1025",
           "tw16@75%", "any@100%", "99999999999999999999", "9" * 5000, "0." + "3" * 3000, '"\\uD800"', '"\\u202E"', '"\\0"', '"\\x1b[2J"', "'" + "x" * 100_000 + "'",
           "2020-01-01", "2020-99-99", "12:30:45", "re:(", "re:[", "*a", "&a b", "<<", "!!int x", "!!float ''", "!!timestamp x", "!!bool x", "!!binary x",
           "!!set {a}", "!!python/object/apply:os.system [ls]", "!local x", "{}", "[]", "[[]]", "{a: b}", "| \n  text", "> \n  text", "package:", "package:..", "a/b",
           "re:(a+)+$", "fixed", "gradual", "inherited", "progressive", "@", "`", "%", "- x", "? x", ": ", "#", "é", "\ufeff", "\x85", "\u2028", "\x00", "\x1b")  # fmt: skip
BLOCKS = ("a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n", "[" * 3000, "{a: " * 3000, "- " * 3000, "? " * 300, "---\n", "...\n", "%YAML 9.9\n---\n", "%TAG ! x:\n---\n",
          "<<: {version: 1}\n", "version: 1\n", "name: again\n", "\t", "a: b: c\n", "'", '"', "key\n", "x" * 2000 + ": 1\n", "? [a, b]\n: 1\n", "1: 2\n", "~: 1\n")  # fmt: skip


def originals() -> list[str]:
    """Return every example as written and with all defaults filled in."""
    texts = [path.read_text() for path in sorted(EXAMPLES.glob("*.yaml"))]
    full = [yaml.safe_dump(parse_recipe(text.encode()).resolved(), sort_keys=False) for text in texts]
    return texts + full


def mutants(seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield (kind of damage, file) endlessly; the same seed gives the same mutants."""
    draw, sources = random.Random(seed), originals()
    while True:
        kind = draw.choice(KINDS)
        yield kind.__name__, kind(draw, draw.choice(sources), sources)


def flipped(draw: random.Random, text: str, _: list[str]) -> bytes:
    """Return the file with bytes changed anywhere."""
    data = bytearray(text.encode())
    for _i in range(draw.choice((1, 1, 2, 4, 16))):
        data[draw.randrange(len(data))] = draw.choice((draw.randrange(256), *b"{}[]:,-?&*!|>'\"%@`#\n \t"))
    return bytes(data)


def lines(draw: random.Random, text: str, sources: list[str]) -> bytes:
    """Return the file with lines dropped, duplicated, moved, taken from another recipe, or indented differently."""
    rows = text.splitlines(keepends=True)
    for _i in range(draw.choice((1, 1, 2, 3))):
        at, other = draw.randrange(len(rows)), draw.choice(draw.choice(sources).splitlines(keepends=True))
        rows[at : at + draw.choice((0, 1, 2))] = draw.choice(
            (
                [],
                [rows[at]] * 2,
                [other],
                [rows[at], other],
                [" " * draw.choice((1, 2, 4)) + rows[at]],
                [rows[at].lstrip()],
            )
        )
        rows = rows or ["\n"]
    return "".join(rows).encode()


def scalars(draw: random.Random, text: str, _: list[str]) -> bytes:
    """Return the file with values, and sometimes keys, replaced."""
    rows = text.splitlines()
    for _i in range(draw.choice((1, 1, 2, 3))):
        at = draw.randrange(len(rows))
        key, colon, value = rows[at].partition(":")
        if draw.random() < 0.8 or not colon:
            rows[at] = f"{key}: {draw.choice(SCALARS)}"
        else:
            indent = key[: len(key) - len(key.lstrip())]
            rows[at] = f"{indent}{draw.choice(SCALARS)}:{value}"
    return "\n".join(rows).encode("utf-8", "surrogatepass")


def blocks(draw: random.Random, text: str, _: list[str]) -> bytes:
    """Return the file with inserted structure: references, nesting, repeated keys, documents."""
    rows = text.splitlines(keepends=True)
    rows.insert(draw.randrange(len(rows) + 1), draw.choice(BLOCKS))
    return "".join(rows).encode()


def cut(draw: random.Random, text: str, _: list[str]) -> bytes:
    """Return the file truncated, doubled, or joined from two halves."""
    data = text.encode()
    a, b = sorted(draw.randrange(len(data) + 1) for _i in range(2))
    return draw.choice(
        (
            data[:a],
            data[a:],
            data[:b] + data[a:],
            data * 2,
            data[:a] + data[b:],
            data[:a].decode("utf-8", "ignore").encode("utf-16"),
        )
    )


def lies(draw: random.Random, text: str, _: list[str]) -> bytes:
    """Return well-formed YAML with wrong values."""
    body = yaml.safe_load(text)
    for _i in range(draw.choice((1, 1, 2, 4))):
        _lie(draw, body)
    return yaml.safe_dump(body, sort_keys=False, allow_unicode=draw.random() < 0.5).encode("utf-8", "surrogatepass")


VALUES = (None, True, False, 0, -1, 1, 2, 3, 2**31, 2**63, 2**64, 10**30, 10**400, 0.0, 0.5, 1.0, -0.5, 1e308, 5e-324, float("nan"), float("inf"), "", " ", "x", "2:4",
          "1:4", "4:4", "2:4t", "tw8@75%", "tew8@70%+5%", "any@50%", "bank64@16x", "*", "re:(", "\ud800", "\u202e", "\x1b]0;x\x07", [], {}, [0], [""], {"a": 1}, [[]],
          "magnitude", "taylor", "wanda", "second-order", "obs", "global", "constrained", "sensitivity", "gradual", "multi-stage", "sr-ste", "inherited", "progressive",
          "bfloat16", "float16", "hidden", "logits", [1, 1], ["2:4", "1:4"], {"encoder.*": "2:4"})  # fmt: skip


def _lie(draw: random.Random, body: Any) -> None:
    while True:
        inner = [
            value
            for value in (body.values() if isinstance(body, dict) else body)
            if isinstance(value, dict | list) and value
        ]
        if not inner or draw.random() < 0.4:
            break
        body = draw.choice(inner)
    if isinstance(body, list):
        body[draw.randrange(len(body))] = copy.deepcopy(draw.choice(VALUES))
    elif draw.random() < 0.2:
        body[
            draw.choice(
                (
                    "recover",
                    "prune",
                    "permute",
                    "limit",
                    "calibration",
                    "method",
                    "stages",
                    "pick",
                    "levels",
                    "attentions",
                    "x",
                    "\u202e",
                )
            )
        ] = copy.deepcopy(draw.choice(VALUES))
    else:
        body[draw.choice(list(body))] = copy.deepcopy(draw.choice(VALUES))


KINDS: list[Callable[[random.Random, str, list[str]], bytes]] = [flipped, lines, scalars, blocks, cut, lies, lies]


def judge(data: bytes) -> str:
    """Return the outcome of a mutant; an exception other than `RecipeError` passes through."""
    try:
        recipe = parse_recipe(data)
    except RecipeError as error:
        message = str(error)
        assert 10 < len(message) < 20_000, f"not a sentence: {len(message)} characters"
        assert message.isprintable(), f"unprintable message {message!r}"
        return "refused"
    text = yaml.safe_dump(recipe.resolved(), sort_keys=False)
    again = parse_recipe(text.encode())
    assert again == recipe, "spelled out, it says something else"
    assert again.digest() == recipe.digest()
    json.dumps(recipe.resolved(), allow_nan=False)
    return "accepted"


def _late(*_: object) -> None:
    raise TimeoutError(f"more than {SECONDS} s for one recipe")


def run(count: int, seed: int, only: int | None = None) -> dict[str, Counter[str]]:
    """Try `count` mutants; return how many of each kind were refused and accepted."""
    outcomes: dict[str, Counter[str]] = {}
    before = signal.signal(signal.SIGPROF, _late)
    try:
        for number, (kind, data) in enumerate(itertools.islice(mutants(seed), count)):
            if only is not None and number != only:
                continue
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            try:
                outcome = judge(data)
            except BaseException:
                print(
                    f"mutant {number} of seed {seed} ({kind}): repeat with --seed {seed} --only {number}",
                    file=sys.stderr,
                )
                raise
            outcomes.setdefault(kind, Counter())[outcome] += 1
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    return outcomes


def main() -> None:
    """Parse the arguments, run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="judge this mutant alone")
    options = parser.parse_args()
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + (4096 << 20), size + (4096 << 20)))
    started = time.perf_counter()
    outcomes = run(options.mutants if options.only is None else options.only + 1, options.seed, options.only)
    total = sum(outcomes.values(), Counter())
    for kind, counts in sorted(outcomes.items()):
        print(f"{kind:10} refused {counts['refused']:6}  accepted {counts['accepted']:6}")
    print(f"{total.total()} recipes in {time.perf_counter() - started:.0f} s: {dict(total)}")


if __name__ == "__main__":
    main()
