"""`Selection`: which weights `verify` checks, and against which patterns."""

import difflib
from collections.abc import Mapping, Sequence

from torch import nn

from ..errors import TargetError
from ..patterns import Pattern, parse
from ..pruning import Targets, means
from .layer import SparseLinear

__all__ = ["Selection"]


class Selection:
    """The weights selected by `targets` and `ignore`, keeping track of expressions that match nothing.

    Parameters
    ----------
    pattern
        Pattern to check every weight against; None for the patterns on record.
    targets
        Expressions for the weights to check, of which the first match wins. A mapping gives each expression its own
        pattern. None selects every weight.
    ignore
        Expressions for weights to leave out, even if they match `targets`.

    Raises
    ------
    TargetError
        If one of them is a string instead of a list, or `targets` is empty.
    """

    def __init__(self, pattern: Pattern | None, targets: Targets | None, ignore: Sequence[str]) -> None:
        if isinstance(targets, str) or (targets is not None and not targets):
            raise TargetError(
                f"targets must be a list of expressions or a mapping from expressions to patterns, got {targets!r}; omit it to verify "
                "every weight"
            )
        if isinstance(ignore, str):
            raise TargetError(f"ignore must be a list of expressions, got {ignore!r}; write [{ignore!r}]")
        self.pattern = pattern
        self.targets, self.ignore = None if targets is None else list(targets), list(ignore)
        self.patterns: dict[str, Pattern] = {}
        if isinstance(targets, Mapping):
            self.patterns = {key: parse(rule) if isinstance(rule, str) else rule for key, rule in targets.items()}
        self._unused = {"targets": set(self.targets or ()), "ignore": set(self.ignore)}
        self._names: dict[str, None] = {}

    def see(self, module_name: str, module: nn.Module | None = None) -> None:
        """Register a module and its parents as existing: `ignore` may name modules that have nothing to verify."""
        self._names[module_name] = None
        around = [module_name]
        while around[-1]:
            around.append(around[-1].rpartition(".")[0])
        for name in around:
            self._match("ignore", self.ignore, name, "", _classes(module) if name == module_name else ())

    def rule(self, name: str, record: Pattern | None, module: nn.Module | None = None) -> Pattern | None:
        """Return the pattern to check a weight against; None if it is left out or has no pattern.

        Parameters
        ----------
        name
            Name of the weight, ending with the name of its parameter.
        record
            Pattern of the weight on record, or None.
        module
            Module of the weight, needed to match class names. Default: None, which matches no class name.
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
        """Raise `TargetError` for the first expression that matched nothing."""
        for role, expressions in (("targets", self.targets or ()), ("ignore", self.ignore)):
            for expression in expressions:
                if expression in self._unused[role]:
                    near = difflib.get_close_matches(expression.removeprefix("re:"), self._names, n=3, cutoff=0.4)
                    nearest = near or list(self._names)[:3]
                    raise TargetError(
                        f"{role}: {expression!r} matches no weight; the closest names are {', '.join(nearest)}"
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
    """Return the names of a module's classes; a sparse layer also counts as ``Linear``."""
    names = [base.__name__ for base in type(module).__mro__] if module is not None else []
    return [*names, "Linear"] if isinstance(module, SparseLinear) else names
