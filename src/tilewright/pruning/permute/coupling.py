"""Which channels of a network are one and the same: a walk through its exported graph, operation by operation."""

import operator
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from ...errors import NotSupportedError
from .axes import Atoms, Axis
from .operators import RULES, UNIFORM, pointwise
from .walk import Given, Rule, mutated, unknown

__all__ = ["Coupling", "call", "couple"]

Axes = list[Axis]


class Coupling:
    """The axes of every parameter and buffer that the graph uses, in atoms that the walk has merged and split.

    Parameters
    ----------
    atoms
        Sizes of atoms, and the reasons of those that must not be permuted.
    tensors
        Parameters and persistent buffers by name, each object once.
    axes
        Of each of those, in atoms that are final.
    seen
        The axes of every tensor of the graph, for `contexts`.
    """

    def __init__(self, atoms: Atoms, tensors: dict[str, Tensor], axes: dict[str, Axes], seen: list[Axes]) -> None:
        self.atoms, self.tensors = atoms, tensors
        for _ in range(2):  # resolving may still find a cut inside a product, and fix it
            self.axes = {name: [atoms.resolve(axis) for axis in own] for name, own in axes.items()}
            seen = [[atoms.resolve(axis) for axis in own] for own in seen]
        self._seen = [*seen, *self.axes.values()]
        self._contexts: dict[int, frozenset[int]] = {}

    def context(self, atom: int) -> frozenset[int]:
        """Return the atoms that stand beside this one in every tensor it appears in.

        The positions of an attention head may be permuted differently in every head, because no tensor has positions without heads.
        """
        if not self._contexts:
            self._collect()
        return self._contexts.get(atom, frozenset())

    def _collect(self) -> None:
        found: dict[int, frozenset[int]] = {}
        for axes in self._seen:
            everywhere = frozenset(atom for axis in axes if len(axis) == 1 for atom in axis[0])
            for axis in axes:
                for term in axis:
                    beside = everywhere | frozenset(term)
                    for atom in term:
                        found[atom] = found.get(atom, beside) & beside
        self._contexts = {atom: beside - {atom} for atom, beside in found.items()}


def call(model: nn.Module, example: Any) -> Any:
    """Call a model: keywords for a mapping, positions for a tuple or list, one argument otherwise."""
    args, kwargs = _arguments(example)
    return model(*args, **kwargs)


def _arguments(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    match example:
        case Mapping():
            return (), dict(example)
        case tuple() | list():
            return tuple(example), {}
        case _:
            return (example,), {}


def couple(model: nn.Module, example: Any) -> Coupling:
    """Walk through the graph that the model runs on an example, and return what its channels have in common.

    Raises
    ------
    NotSupportedError
        If torch cannot capture the graph.
    """
    args, kwargs = _arguments(example)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # recurrent layers warn of weights that they keep in a list as well
            program = torch.export.export(model, args, kwargs, strict=False)
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise NotSupportedError(
            f"channels are found in the graph of torch.export, and it cannot capture {type(model).__name__} on this example: "
            f"{first}; pass a part of the model that it can, or prune without permuting"
        ) from error
    return _Walker(model, program).run()


class _Walker:
    """One pass over the nodes of a graph; satisfies `operators.Walk`."""

    def __init__(self, model: nn.Module, program: torch.export.ExportedProgram) -> None:
        self.atoms, self.where = Atoms(), ""
        self._values: dict[fx.Node, Any] = {}
        self._seen: list[Axes] = []
        self._model, self._program = model, program
        self._tensors: dict[str, Tensor] = {}
        self._axes: dict[str, Axes] = {}
        self._names: dict[int, str] = {}
        self._node: fx.Node

    def run(self) -> Coupling:
        for node in self._program.graph.nodes:
            self._node = node
            self.where = _where(node)
            if node.op == "placeholder":
                self._values[node] = self._placeholder(node)
            elif node.op == "output":
                for source in node.all_input_nodes:
                    self._fix_all(self._values[source], "graph output")
            elif node.op == "get_attr":
                self._values[node] = self._fitting(unknown(self, {}), {}) if _shapes(node) else None
            else:
                self._values[node] = self._called(node)
            self._record(self._values.get(node))
        return Coupling(self.atoms, self._tensors, self._axes, self._seen)

    # What a rule sees.

    def axes(self, value: Any) -> Axes:
        if not isinstance(value, fx.Node):
            return []
        found = self._values[value]
        return [self.atoms.resolve(axis) for axis in found] if found and isinstance(found[0], tuple) else []

    def shape(self) -> list[int]:
        return self.shapes()[0]

    def shapes(self) -> list[list[int]]:
        return _shapes(self._node)

    def uniform(self, node: fx.Node) -> bool:
        return _kind(node) in UNIFORM and all(
            _kind(user) in ("lstm", "gru", "rnn_tanh", "rnn_relu") for user in node.users
        )

    def uses_more_than_first(self) -> bool:
        return any(user.args[1] != 0 and user.users for user in self._node.users if user.target is operator.getitem)

    def note(self, axes: Axes) -> None:
        self._seen.append(list(axes))

    # The nodes.

    def _placeholder(self, node: fx.Node) -> Any:
        signature = self._program.graph_signature
        name = signature.inputs_to_parameters.get(node.name) or signature.inputs_to_buffers.get(node.name)
        shapes = _shapes(node)
        if not shapes:
            return None
        if name is None:
            lifted = node.name in signature.inputs_to_lifted_tensor_constants
            return [self.atoms.new(size, "a constant of the graph" if lifted else "graph input") for size in shapes[0]]
        if name in signature.non_persistent_buffers:
            return [self.atoms.new(size, f"buffer {name} is computed anew by every load") for size in shapes[0]]
        tensor = _lookup(self._model, name)
        first = self._names.setdefault(id(tensor), name)
        if first == name:
            fixed = "" if tensor.is_floating_point() else f"{name} holds numbers of positions"
            self._tensors[name], self._axes[name] = tensor, [self.atoms.new(size, fixed) for size in tensor.shape]
        return self._axes[first]

    def _called(self, node: fx.Node) -> Any:
        if node.target is operator.getitem:
            source, index = node.args
            found = self._values[source]  # type: ignore[index]
            return found[index] if found else None
        if not _shapes(node):
            self._used_otherwise(node)
            return None
        given = _bind(node)
        try:
            out = self._rule(node)(self, given)
        except (LookupError, ValueError, TypeError) as error:
            # A form of the operation that its rule does not know: an operand left out, a list where one was expected.
            self.where += f" ({type(error).__name__}: {error})"
            out = unknown(self, given)
        out = self._fitting(out, given)
        if mutated(node):
            first = next(iter(given.values()))
            for mine, theirs in zip(self.axes(first), out, strict=True):
                self.atoms.unify(mine, theirs)
        return out

    def _rule(self, node: fx.Node) -> Rule:
        if not isinstance(node.target, torch._ops.OpOverload) or node.target.namespace != "aten":
            return unknown
        return RULES.get(_kind(node), pointwise if torch.Tag.pointwise in node.target.tags else unknown)

    def _fitting(self, out: Any, given: Given) -> Any:
        """Check the sizes a rule returned against the shapes torch found; where they differ the rule is not trusted."""
        shapes = self.shapes()
        several = isinstance(self._node.meta["val"], list | tuple)
        if not several and out and isinstance(out[0], list):
            out = out[0]
        if several and not (out and isinstance(out[0], list)):
            out = [out]
        each = out if several else [out]
        sizes = [[self.atoms.size(axis) for axis in axes] for axes in each]
        if sizes != shapes:
            self.where += " (a form that its rule does not know)"
            out = unknown(self, given)
            return out if several else out[0]
        return out

    def _used_otherwise(self, node: fx.Node) -> None:
        """A node that gives no tensor: an assertion about shapes and types, or a number read from values."""
        if "assert" in str(node.target) or "sym_" in str(node.target):
            return
        for source in node.all_input_nodes:
            self._fix_all(self._values[source], f"its values are read at {self.where}")

    def _fix_all(self, value: Any, reason: str) -> None:
        if not value:
            return
        if isinstance(value[0], list):
            for one in value:
                self._fix_all(one, reason)
            return
        for axis in value:
            self.atoms.fix(axis, reason)

    def _record(self, value: Any) -> None:
        if value and isinstance(value[0], list):
            self._seen += [one for one in value if one]
        elif value:
            self._seen.append(value)


def _bind(node: fx.Node) -> Given:
    """Return the arguments by the names of the operation's schema, defaults left out."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return {str(i): source for i, source in enumerate(node.all_input_nodes)}
    names = [argument.name for argument in node.target._schema.arguments]
    return {**dict(zip(names, node.args, strict=False)), **node.kwargs}


def _kind(node: fx.Node) -> str:
    """Return the name of an operation without its namespace and overload; one that writes into its operand under the plain name."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return ""
    name = node.target._schema.name.split("::")[1]
    return name.removesuffix("_") if mutated(node) else name


def _shapes(node: fx.Node) -> list[list[int]]:
    value = node.meta.get("val")
    values = value if isinstance(value, list | tuple) else [value]
    shapes = [list(one.shape) for one in values if isinstance(one, Tensor)]
    if not all(isinstance(size, int) for shape in shapes for size in shape):
        raise NotSupportedError(
            f"the sizes of {_where(node)} depend on values, so its channels cannot be followed; pass a part of the model without it"
        )
    return shapes


def _where(node: fx.Node) -> str:
    """Return an operation and its module: ``aten.cat in encoder.layer.0``."""
    stack = node.meta.get("nn_module_stack") or {}
    path = list(stack.values())[-1][0] if stack else ""
    name = str(node.target).rsplit(".", 1)[0] if isinstance(node.target, torch._ops.OpOverload) else node.name
    return f"{name} in {path}" if path else name


def _lookup(model: nn.Module, name: str) -> Tensor:
    path, _, leaf = name.rpartition(".")
    found = getattr(model.get_submodule(path), leaf)
    assert isinstance(found, Tensor)
    return found
