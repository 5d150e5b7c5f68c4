"""Which channels of a network belong together: a walk through its exported graph, operation by operation."""

import operator
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from ...errors import NotSupportedError
from .axes import Atoms, Axis
from .operators import RULES, UNIFORM, pointwise
from .walk import Arguments, Rule, mutated, unknown

__all__ = ["Coupling", "call", "couple"]

Axes = list[Axis]


class Coupling:
    """The axes of every parameter and buffer that the graph uses, in atoms that the walk has merged and split.

    Parameters
    ----------
    atoms
        Sizes of the atoms, and reasons for those that must not be permuted.
    tensors
        Parameters and persistent buffers by name, each object once.
    axes
        Axes of each of these tensors, by name.
    seen
        Axes of every tensor of the graph, for `context`.
    """

    def __init__(self, atoms: Atoms, tensors: dict[str, Tensor], axes: dict[str, Axes], seen: list[Axes]) -> None:
        self.atoms, self.tensors = atoms, tensors
        for _ in range(2):  # resolving may still find a cut inside a product and fix it
            self.axes = {name: [atoms.resolve(axis) for axis in tensor_axes] for name, tensor_axes in axes.items()}
            seen = [[atoms.resolve(axis) for axis in tensor_axes] for tensor_axes in seen]
        self._seen = [*seen, *self.axes.values()]
        self._contexts: dict[int, frozenset[int]] = {}

    def context(self, atom: int) -> frozenset[int]:
        """Return the atoms that accompany this one in every tensor where it occurs.

        The positions inside an attention head may be permuted differently in every head, because no tensor has positions without heads.
        """
        if not self._contexts:
            self._collect()
        return self._contexts.get(atom, frozenset())

    def _collect(self) -> None:
        contexts: dict[int, frozenset[int]] = {}
        for axes in self._seen:
            everywhere = frozenset(atom for axis in axes if len(axis) == 1 for atom in axis[0])
            for axis in axes:
                for term in axis:
                    context = everywhere | frozenset(term)
                    for atom in term:
                        contexts[atom] = contexts.get(atom, context) & context
        self._contexts = {atom: context - {atom} for atom, context in contexts.items()}


def call(model: nn.Module, example: Any) -> Any:
    """Call a model with keyword arguments for a mapping, positional ones for a tuple or list, and one argument otherwise."""
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
    """Walk through the graph that the model runs on an example, and return how its channels are coupled.

    Raises
    ------
    NotSupportedError
        If torch cannot capture the graph.
    """
    args, kwargs = _arguments(example)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # recurrent layers warn because they also keep their weights in a list
            program = torch.export.export(model, args, kwargs, strict=False)
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise NotSupportedError(
            f"permuting channels needs the model's graph, but torch.export cannot capture {type(model).__name__} on this example: "
            f"{first}; pass a part of the model that it can capture, or prune without permuting"
        ) from error
    return _Walker(model, program).run()


class _Walker:
    """One pass over the nodes of a graph; implements `walk.Walk`."""

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

    # Interface for the rules.

    def axes(self, value: Any) -> Axes:
        if not isinstance(value, fx.Node):
            return []
        axes = self._values[value]
        return [self.atoms.resolve(axis) for axis in axes] if axes and isinstance(axes[0], tuple) else []

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

    # Nodes of each kind.

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
            return [self.atoms.new(size, f"buffer {name} is recomputed by every load") for size in shapes[0]]
        tensor = _lookup(self._model, name)
        first_name = self._names.setdefault(id(tensor), name)
        if first_name == name:
            reason = "" if tensor.is_floating_point() else f"{name} contains indices"
            self._tensors[name], self._axes[name] = tensor, [self.atoms.new(size, reason) for size in tensor.shape]
        return self._axes[first_name]

    def _called(self, node: fx.Node) -> Any:
        if node.target is operator.getitem:
            source, index = node.args
            results = self._values[source]  # type: ignore[index]
            return results[index] if results else None
        if not _shapes(node):
            self._used_otherwise(node)
            return None
        arguments = _bind(node)
        try:
            out = self._rule(node)(self, arguments)
        except (LookupError, ValueError, TypeError) as error:
            # A form of the operation that its rule does not cover: a missing operand, or a list instead of a single value.
            self.where += f" ({type(error).__name__}: {error})"
            out = unknown(self, arguments)
        out = self._fitting(out, arguments)
        if mutated(node):
            first = next(iter(arguments.values()))
            for operand_axis, result_axis in zip(self.axes(first), out, strict=True):
                self.atoms.unify(operand_axis, result_axis)
        return out

    def _rule(self, node: fx.Node) -> Rule:
        if not isinstance(node.target, torch._ops.OpOverload) or node.target.namespace != "aten":
            return unknown
        return RULES.get(_kind(node), pointwise if torch.Tag.pointwise in node.target.tags else unknown)

    def _fitting(self, out: Any, arguments: Arguments) -> Any:
        """Compare the sizes a rule returned with the shapes from torch; where they differ, discard the result and fix everything."""
        shapes = self.shapes()
        several = isinstance(self._node.meta["val"], list | tuple)
        if not several and out and isinstance(out[0], list):
            out = out[0]
        if several and not (out and isinstance(out[0], list)):
            out = [out]
        results = out if several else [out]
        sizes = [[self.atoms.size(axis) for axis in axes] for axes in results]
        if sizes != shapes:
            self.where += " (a form that its rule does not cover)"
            out = unknown(self, arguments)
            return out if several else out[0]
        return out

    def _used_otherwise(self, node: fx.Node) -> None:
        """Handle a node that returns no tensor: an assertion about shapes and types, or a number read from values."""
        if "assert" in str(node.target) or "sym_" in str(node.target):
            return
        for source in node.all_input_nodes:
            self._fix_all(self._values[source], f"its values are read at {self.where}")

    def _fix_all(self, value: Any, reason: str) -> None:
        if not value:
            return
        if isinstance(value[0], list):
            for item in value:
                self._fix_all(item, reason)
            return
        for axis in value:
            self.atoms.fix(axis, reason)

    def _record(self, value: Any) -> None:
        if value and isinstance(value[0], list):
            self._seen += [axes for axes in value if axes]
        elif value:
            self._seen.append(value)


def _bind(node: fx.Node) -> Arguments:
    """Return the arguments by their names in the operation's schema, without defaults."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return {str(i): source for i, source in enumerate(node.all_input_nodes)}
    names = [argument.name for argument in node.target._schema.arguments]
    return {**dict(zip(names, node.args, strict=False)), **node.kwargs}


def _kind(node: fx.Node) -> str:
    """Return the name of an operation without namespace and overload; in-place variants have the name of the plain one."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return ""
    name = node.target._schema.name.split("::")[1]
    return name.removesuffix("_") if mutated(node) else name


def _shapes(node: fx.Node) -> list[list[int]]:
    value = node.meta.get("val")
    values = value if isinstance(value, list | tuple) else [value]
    shapes = [list(tensor.shape) for tensor in values if isinstance(tensor, Tensor)]
    if not all(isinstance(size, int) for shape in shapes for size in shape):
        raise NotSupportedError(
            f"the sizes of {_where(node)} depend on values, so its channels cannot be traced; pass a part of the model without it"
        )
    return shapes


def _where(node: fx.Node) -> str:
    """Return the name of an operation with its module, such as ``aten.cat in encoder.layer.0``."""
    stack = node.meta.get("nn_module_stack") or {}
    path = list(stack.values())[-1][0] if stack else ""
    name = str(node.target).rsplit(".", 1)[0] if isinstance(node.target, torch._ops.OpOverload) else node.name
    return f"{name} in {path}" if path else name


def _lookup(model: nn.Module, name: str) -> Tensor:
    path, _, leaf = name.rpartition(".")
    tensor = getattr(model.get_submodule(path), leaf)
    assert isinstance(tensor, Tensor)
    return tensor
