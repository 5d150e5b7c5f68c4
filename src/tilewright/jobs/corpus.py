"""Real text that every Python carries: the docstrings of its standard library and its language reference.

The text differs a little between Python versions, so a corpus has a digest that goes into the records.
"""

import ast
import hashlib
import importlib
import random
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..errors import ArgumentError

__all__ = ["Corpus", "python_docs"]

_SKIPPED = {"test", "tests", "site-packages", "dist-packages", "idlelib", "lib2to3", "__pycache__", "pydoc_data"}
_SHORTEST, _LONGEST = 40, 1200
"""Characters of a passage: shorter ones say nothing, longer ones exceed what the model reads."""


@dataclass(frozen=True)
class Corpus:
    """Passages to train on and pairs to evaluate on, without overlap.

    Parameters
    ----------
    passages
        Distinct paragraphs; none shares a docstring with a pair.
    pairs
        (first paragraph, second paragraph) of held-out docstrings: given the first, the second is to be found among all.
    digest
        SHA-256 over all text: two runs with the same digest saw the same data.
    """

    passages: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    digest: str


def python_docs(pairs: int = 500, seed: int = 0) -> Corpus:
    """Return the corpus of the running Python's own documentation.

    Parameters
    ----------
    pairs
        Held-out pairs for evaluation.
    seed
        Chooses which docstrings are held out.

    Raises
    ------
    ArgumentError
        If the installed library has too few docstrings for that many pairs (a stripped Python, or ``-OO``).
    """
    texts = _docstrings()
    split = [_paragraphs(text) for text in texts]
    candidates = [i for i, parts in enumerate(split) if len(parts) >= 2]
    random.Random(seed).shuffle(candidates)
    held: list[int] = []
    firsts: set[str] = set()
    seconds: set[str] = set()
    for i in candidates:
        first, second = split[i][:2]
        if len(held) == pairs:
            break
        if first not in firsts and second not in seconds:  # a repeated paragraph would have two right answers
            held.append(i)
            firsts.add(first)
            seconds.add(second)
    if len(held) < pairs:
        raise ArgumentError(
            f"the standard library of this Python has only {len(held)} docstrings with two paragraphs, and {pairs} pairs were asked "
            "for; ask for fewer, or use a Python with its library sources"
        )
    unseen = {paragraph for i in held for paragraph in split[i]}
    chosen = set(held)
    rest = (p for i, parts in enumerate(split) if i not in chosen for p in parts)
    passages = tuple(p for p in dict.fromkeys((*rest, *_topics())) if p not in unseen)
    kept = tuple((split[i][0], split[i][1]) for i in held)
    digest = hashlib.sha256("\0".join([*passages, *(p for pair in kept for p in pair)]).encode()).hexdigest()
    return Corpus(passages, kept, digest)


@cache
def _docstrings() -> tuple[str, ...]:
    """Return the distinct docstrings of the standard library; parsed once, which takes seconds."""
    return tuple(dict.fromkeys(_parsed()))


def _parsed() -> Iterator[str]:
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        if _SKIPPED.intersection(path.relative_to(root).parts):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # old escapes in library sources
                tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, OSError):
            continue  # a file kept broken on purpose, or unreadable here
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text:
                    yield text


def _topics() -> Iterator[str]:
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    for name in sorted(topics):
        yield from _paragraphs(topics[name])


def _paragraphs(text: str) -> list[str]:
    """Cut at blank lines, join wrapped lines, drop what is too short to mean anything."""
    parts = (" ".join(part.split()) for part in text.split("\n\n"))
    return [part[:_LONGEST] for part in parts if len(part) >= _SHORTEST]
