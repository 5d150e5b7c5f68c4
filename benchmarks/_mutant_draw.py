"""List the mutants of a room and draw a sample: cosmic-ray finds the places and makes the changes, this module selects."""

import ast
import hashlib
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from _mutant_run import ROOT
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

__all__ = ["Mutant", "draw", "mutants"]

OPERATORS = [
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul")),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("Mod_FloorDiv", "Pow_Mul", "LShift_RShift", "RShift_LShift")),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ("BitAnd_BitOr", "BitOr_BitAnd", "BitXor_BitAnd")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt")),
    *(f"ReplaceComparisonOperator_{pair}" for pair in ("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is")),
    *(f"ReplaceUnaryOperator_Delete_{sign}" for sign in ("USub", "Invert", "Not")),
    *("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ExceptionReplacer", "NumberReplacer"),
    *("RemoveDecorator", "ZeroIterationForLoop"),
]
"""One replacement per operator, the nearest one: of cosmic-ray's eleven for ``+``, ten fail at once and would inflate the score."""


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Parameters
    ----------
    path
        File, relative to the repository.
    operator
        Name of the cosmic-ray operator.
    occurrence
        Index of the change among the operator's places in the file.
    line
        Line of the change, counted from 1.
    """

    path: str
    operator: str
    occurrence: int
    line: int

    @property
    def source(self) -> str:
        """The unchanged source of the file."""
        return _source(self.path)

    def mutated(self) -> str:
        """Return the source of the file with the change."""
        return str(mutate_code(self.source, _operator(self.operator), self.occurrence))

    @property
    def change(self) -> str:
        """The changed lines, before and after; reasons are looked up by it, even if the lines have moved."""
        before, after = self.source.splitlines(), self.mutated().splitlines()
        same = next(i for i, (old, new) in enumerate(zip(before, after, strict=False)) if old != new)
        tail = next((i for i, (a, b) in enumerate(zip(before[::-1], after[::-1], strict=False)) if a != b), 0)
        old, new = before[same : len(before) - tail], after[same : len(after) - tail]
        return f"{' '.join(' '.join(old).split())} -> {' '.join(' '.join(new).split())}"

    @property
    def name(self) -> str:
        """A name that changes with the file, so that a session never reuses a result of an older version."""
        text = f"{self.source}|{self.operator}|{self.occurrence}"
        return hashlib.sha256(text.encode()).hexdigest()[:24]


def mutants(folder: str) -> list[Mutant]:
    """Return all mutants of a folder, file by file.

    Changes that affect only text or types are omitted: those inside annotations, raised exceptions and formatted strings.
    """
    paths = sorted(str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*.py"))
    return [mutant for path in paths for mutant in _of_file(path)]


def draw(room: Sequence[Mutant], count: int, seed: int) -> list[Mutant]:
    """Return a random sample without repetition, or all mutants if there are fewer than `count`.

    Skipped are changes that Python cannot compile, that leave the syntax tree unchanged, or that turn the -1 of a ``reshape`` into
    a -2, which NumPy treats the same.
    """
    order = random.Random(seed).sample(range(len(room)), len(room))
    chosen = itertools.islice((index for index in order if _differs(room[index])), count)
    return [room[index] for index in sorted(chosen)]


def _of_file(path: str) -> Iterator[Mutant]:
    source = _source(path)
    silent = list(_silent(ast.parse(source)))
    nodes = list(ast_nodes(get_ast(source)))
    for operator in OPERATORS:
        places = (place for node in nodes for place in _operator(operator).mutation_positions(node))
        for occurrence, (start, end) in enumerate(places):
            if not any(low <= start and end <= high for low, high in silent):
                yield Mutant(path, operator, occurrence, start[0])


def _differs(mutant: Mutant) -> bool:
    try:
        return _tree(mutant.mutated()) != _tree(mutant.source)
    except SyntaxError:
        return False


def _tree(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "reshape":
            node.args = [ast.Name("the rest") if ast.unparse(a) in ("-1", "-2") else a for a in node.args]
    return ast.dump(tree)


def _silent(tree: ast.AST) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield the (start, end) spans that contain only text or types."""
    for node in ast.walk(tree):
        spans: list[ast.AST | None] = []
        if isinstance(node, ast.arg | ast.AnnAssign):
            spans = [node.annotation]
        elif isinstance(node, ast.FunctionDef):
            spans = [node.returns]
        elif isinstance(node, ast.Raise | ast.JoinedStr):
            spans = [node]
        for span in spans:
            if isinstance(span, ast.expr | ast.stmt) and span.end_lineno and span.end_col_offset:
                yield (span.lineno, span.col_offset), (span.end_lineno, span.end_col_offset)


@lru_cache
def _source(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


@lru_cache
def _operator(name: str):
    return get_operator(f"core/{name}")()
