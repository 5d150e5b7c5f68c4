"""`Selection`: which weights `verify` looks at, and what each is held against."""

import difflib
from collections.abc import Mapping, Sequence

from torch import nn

from ..errors import TargetError
from ..patterns import Pattern, parse
from ..pruning import Targets, means
from .layer import SparseLinear

__all__ = ["Selection"]


class Selection:
    """Targets and what is ignored, with a memory of which expressions have matched something.

    Parameters
    ----------
    pattern
        What every weight is held against; None for the pattern on record.
    targets
        Expressions, the first that matches wins; a mapping gives each its own pattern. None for every weight.
    ignore
        Expressions for what is left out, whatever `targets` says.

    Raises
    ------
    TargetError
        If one of them is text instead of a list, or `targets` is empty.
    """

    def __init__(self, pattern: Pattern | None, targets: Targets | None, ignore: Sequence[str]) -> None:
        if isinstance(targets, str) or (targets is not None and not targets):
            raise TargetError(
                f"targets must be a list of expressions or a mapping of them to patterns, and it is {targets!r}; leave it out to "
                "verify every weight"
            )
        if isinstance(ignore, str):
            raise TargetError(f"ignore must be a list of expressions, and it is {ignore!r}; write [{ignore!r}]")
        self.pattern = pattern
        self.targets, self.ignore = None if targets is None else list(targets), list(ignore)
        self.patterns: dict[str, Pattern] = {}
        if isinstance(targets, Mapping):
            self.patterns = {key: parse(rule) if isinstance(rule, str) else rule for key, rule in targets.items()}
        self._unused = {"targets": set(self.targets or ()), "ignore": set(self.ignore)}
        self._names: dict[str, None] = {}

    def see(self, module_name: str, module: nn.Module | None = None) -> None:
        """Take note of a module, and of those around it: `ignore` may name what has nothing to verify."""
        self._names[module_name] = None
        around = [module_name]
        while around[-1]:
            around.append(around[-1].rpartition(".")[0])
        for name in around:
            self._match("ignore", self.ignore, name, "", _classes(module) if name == module_name else ())

    def rule(self, name: str, record: Pattern | None, module: nn.Module | None = None) -> Pattern | None:
        """Return what a weight is held against; None where it is left out, or nothing is known of it.

        Parameters
        ----------
        name
            Of the weight, its parameter's name last.
        record
            Its pattern on record.
        module
            Its module, for class names, where there is one.
        """
        owner, _, parameter = name.rpartition(".")
        self._names[owner] = None
        classes = _classes(module)
        target = self._match("targets", self.targets or (), owner, parameter, classes)
        if self._match("ignore", self.ignore, owner, parameter, classes) is not None:
            return None
        if self.targets is not None and target is None:
            return None
        return self.patterns.get(target or "") or self.pattern or record

    def require_all_used(self) -> None:
        """Raise `TargetError` for the first expression that has matched nothing."""
        for role, expressions in (("targets", self.targets or ()), ("ignore", self.ignore)):
            for expression in expressions:
                if expression in self._unused[role]:
                    near = difflib.get_close_matches(expression.removeprefix("re:"), self._names, n=3, cutoff=0.4)
                    nearest = near or list(self._names)[:3]
                    raise TargetError(
                        f"{role} {expression!r} matches no weight here; the nearest names are {', '.join(nearest)}"
                    )

    def _match(
        self, role: str, expressions: Sequence[str], owner: str, parameter: str, classes: Sequence[str]
    ) -> str | None:
        first = None
        for expression in expressions:
            if means(expression, owner, parameter, classes):
                self._unused[role].discard(expression)
                first = first or expression
        return first


def _classes(module: nn.Module | None) -> list[str]:
    """Return the names of a module's classes; a sparse layer also answers to the name of what it stands for."""
    names = [base.__name__ for base in type(module).__mro__] if module is not None else []
    return [*names, "Linear"] if isinstance(module, SparseLinear) else names
