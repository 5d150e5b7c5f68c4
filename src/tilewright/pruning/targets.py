"""Expressions that select weights: exact names, globs, regular expressions and class names."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn

from ..errors import TargetError
from .weights import Weight

__all__ = ["matches", "means", "pick", "require_match"]


def matches(expression: str, module_name: str, module: nn.Module, parameter_name: str = "") -> bool:
    """Return whether an expression matches a module or one of its parameters; see `means` for the syntax."""
    return means(expression, module_name, parameter_name, [base.__name__ for base in type(module).__mro__])


def means(expression: str, module_name: str, parameter_name: str = "", classes: Sequence[str] = ()) -> bool:
    """Return whether an expression matches a module or parameter with these names.

    ``re:...`` is a regular expression that must match the whole name. An expression with ``*``, ``?`` or ``[...]`` is a glob, in which
    ``*`` also matches dots. Anything else is an exact name, or the name of the module's class or of one of its base classes.

    Parameters
    ----------
    expression
        The expression.
    module_name
        Dotted name of the module, as in `named_modules`.
    parameter_name
        Name of the parameter within the module. Default: match the module alone.
    classes
        Names of the module's class and of its base classes.
    """
    names = [module_name]
    if parameter_name:
        names.append(f"{module_name}.{parameter_name}" if module_name else parameter_name)
    if expression.startswith("re:"):
        regex = _compiled(expression)
        return any(regex.fullmatch(name) for name in names)
    return any(fnmatchcase(name, expression) or name == expression for name in names) or expression in classes


def pick(expressions: Iterable[str], weight: Weight) -> str | None:
    """Return the first expression that matches a weight, or None."""
    for expression in expressions:
        if matches(expression, weight.module_name, weight.module, weight.parameter_name):
            return expression
    return None


def require_match(expressions: Iterable[str], model: nn.Module, weights: Sequence[Weight], role: str) -> None:
    """Raise `TargetError` for the first expression that matches no weight (for ``ignore``: no module or parameter at all)."""
    modules = dict(model.named_modules())
    for expression in expressions:
        if pick_any(expression, weights):
            continue
        matched = [name for name, module in modules.items() if matches(expression, name, module)]
        if role == "ignore" and (matched or _means_parameter(expression, modules)):
            continue
        raise TargetError(_message(expression, role, matched, modules, weights))


def pick_any(expression: str, weights: Sequence[Weight]) -> bool:
    """Return whether an expression matches at least one of the weights."""
    return any(pick([expression], weight) for weight in weights)


def _means_parameter(expression: str, modules: Mapping[str, nn.Module]) -> bool:
    """Return whether an expression matches a parameter of any kind."""
    return any(
        matches(expression, name, module, parameter)
        for name, module in modules.items()
        for parameter in module._parameters
    )


def _message(
    expression: str, role: str, matched: Sequence[str], modules: Mapping[str, nn.Module], weights: Sequence[Weight]
) -> str:
    names = list(dict.fromkeys(weight.module_name for weight in weights))
    inside = [name for name in names if name.startswith(f"{expression}.")]
    if inside:
        return f"{role} {expression!r} has no weight of its own; for the {len(inside)} modules inside it, write '{expression}.*'"
    if matched:
        kind = type(modules[matched[0]]).__name__
        return f"{role} {expression!r} matches {matched[0]!r} ({kind}), which has no prunable weight"
    nearest = difflib.get_close_matches(expression.removeprefix("re:"), [*names, *modules], n=3, cutoff=0.4)
    nearest = list(dict.fromkeys(nearest)) or names[:3]
    hint = f"did you mean {' or '.join(nearest)}?" if nearest else "the model has no prunable weight"
    return f"{role} {expression!r} matches nothing in {type(modules['']).__name__}; {hint}"


def _compiled(expression: str) -> re.Pattern[str]:
    try:
        return re.compile(expression.removeprefix("re:"))
    except re.error as error:
        raise TargetError(f"{expression!r} is not a regular expression: {error}") from None
