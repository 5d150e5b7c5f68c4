"""Real text that ships with every Python: the docstrings of the standard library and the language reference.

The text differs slightly between Python versions, so each corpus has a digest, which records include.
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
"""Limits on the length of a passage, in characters: shorter ones carry no meaning, longer ones exceed the model's input."""


@dataclass(frozen=True)
class Corpus:
    """Passages to train on and pairs to evaluate on, without overlap.

    Parameters
    ----------
    passages
        Distinct paragraphs; none shares a docstring with a pair.
    pairs
        (first paragraph, second paragraph) of held-out docstrings. The task is to find the second among all, given the first.
    digest
        SHA-256 of all text: two runs with the same digest used the same data.
    """

    passages: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    digest: str


def python_docs(pairs: int = 500, seed: int = 0) -> Corpus:
    """Return the documentation of the running Python as a corpus.

    Parameters
    ----------
    pairs
        Number of held-out pairs for evaluation.
    seed
        Seed that selects the held-out docstrings.

    Raises
    ------
    ArgumentError
        If the standard library has too few docstrings for `pairs` (a stripped Python, or ``-OO``).
    """
    texts = _docstrings()
    split = [_paragraphs(text) for text in texts]
    candidates = [i for i, parts in enumerate(split) if len(parts) >= 2]
    random.Random(seed).shuffle(candidates)
    test: list[int] = []
    firsts: set[str] = set()
    seconds: set[str] = set()
    for i in candidates:
        first, second = split[i][:2]
        if len(test) == pairs:
            break
        if first not in firsts and second not in seconds:  # a repeated paragraph would have two right answers
            test.append(i)
            firsts.add(first)
            seconds.add(second)
    if len(test) < pairs:
        raise ArgumentError(
            f"{pairs} pairs requested, but the standard library of this Python has only {len(test)} docstrings with two paragraphs; "
            "request fewer pairs, or use a Python with its library sources"
        )
    held_out = {paragraph for i in test for paragraph in split[i]}
    indices = set(test)
    rest = (p for i, parts in enumerate(split) if i not in indices for p in parts)
    passages = tuple(p for p in dict.fromkeys((*rest, *_topics())) if p not in held_out)
    test_pairs = tuple((split[i][0], split[i][1]) for i in test)
    digest = hashlib.sha256("\0".join([*passages, *(p for pair in test_pairs for p in pair)]).encode()).hexdigest()
    return Corpus(passages, test_pairs, digest)


@cache
def _docstrings() -> tuple[str, ...]:
    """Return the distinct docstrings of the standard library; cached, since parsing takes seconds."""
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
            continue  # deliberately broken (a test file), or unreadable here
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
    """Split at blank lines, join wrapped lines, and drop paragraphs too short to mean anything."""
    parts = (" ".join(part.split()) for part in text.split("\n\n"))
    return [part[:_LONGEST] for part in parts if len(part) >= _SHORTEST]
