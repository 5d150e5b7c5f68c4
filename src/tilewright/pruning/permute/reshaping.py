"""Rules for operations that move, cut, join or resize axes: reshapes, slices, concatenations, pooling, indexing."""

from collections.abc import Sequence

from .axes import Axis
from .walk import Arguments, Axes, Walk, unknown

__all__ = [
    "adjoint",
    "along",
    "cat",
    "expand",
    "index",
    "pad",
    "permute",
    "pool",
    "pool1d",
    "repeat",
    "repeat_interleave",
    "repeated",
    "reshape",
    "reverse",
    "select",
    "split",
    "squeeze",
    "stack",
    "take",
    "transpose",
    "triangle",
    "unbind",
    "without",
]


def repeated(walk: Walk, axis: Axis, size: int) -> Axis:
    """Return an axis with every position repeated in place: ``(axis, copies)``."""
    axis = walk.atoms.resolve(axis)
    copies = walk.atoms.new(size // walk.atoms.size(axis))
    if len(axis) != 1 or len(copies) != 1:
        walk.atoms.fix(axis, f"repeated at {walk.where}")
        return walk.atoms.new(size, f"repeated at {walk.where}")
    return ((*axis[0], *copies[0]),)


def without(axes: Axes, dims: Sequence[int]) -> Axes:
    """Return the axes without those in `dims`."""
    dropped = {dim % len(axes) for dim in dims} if axes else set()
    return [axis for i, axis in enumerate(axes) if i not in dropped]


def _resized(walk: Walk, x: Axes, kept: int) -> Axes:
    reason = f"a spatial axis of {walk.where}"
    for axis in x[kept:]:
        walk.atoms.fix(axis, reason)
    return [*x[:kept], *(walk.atoms.new(size, reason) for size in walk.shape()[kept:])]


def pad(walk: Walk, arguments: Arguments) -> Axes:
    """Fix the padded axes, which are counted from the last."""
    x, amounts = walk.axes(arguments["self"]), arguments["pad"]
    return _resized(walk, x, len(x) - len(amounts) // 2)


def pool(walk: Walk, arguments: Arguments) -> Axes:
    """Fix the last two axes, which 2d pooling and resizing change; channels pass through."""
    x = walk.axes(next(iter(arguments.values())))
    return _resized(walk, x, len(x) - 2)


def pool1d(walk: Walk, arguments: Arguments) -> Axes:
    """Fix the last axis, which 1d pooling changes."""
    x = walk.axes(arguments["self"])
    return _resized(walk, x, len(x) - 1)


def reshape(walk: Walk, arguments: Arguments) -> Axes:
    """Split and join axes in row-major order."""
    return walk.atoms.regroup(walk.axes(arguments["self"]), walk.shape())


def transpose(walk: Walk, arguments: Arguments) -> Axes:
    """Exchange two axes; ``t`` exchanges the two axes of a matrix."""
    x = list(walk.axes(arguments["self"]))
    if len(x) > 1:
        a, b = arguments.get("dim0", 0), arguments.get("dim1", 1)
        x[a], x[b] = x[b], x[a]
    return x


def reverse(walk: Walk, arguments: Arguments) -> Axes:
    """Reverse the order of the axes."""
    return walk.axes(arguments["self"])[::-1]


def adjoint(walk: Walk, arguments: Arguments) -> Axes:
    """Exchange the last two axes."""
    x = walk.axes(arguments["self"])
    return [*x[:-2], x[-1], x[-2]]


def permute(walk: Walk, arguments: Arguments) -> Axes:
    """Reorder the axes."""
    x = walk.axes(arguments["self"])
    return [x[dim] for dim in arguments["dims"]]


def expand(walk: Walk, arguments: Arguments) -> Axes:
    """Return free axes where an axis of size 1 is expanded: its copies are equal, so any order will do."""
    x, shape = walk.axes(arguments["self"]), walk.shape()
    lead = len(shape) - len(x)
    return [
        walk.atoms.new(size) if i < lead or walk.atoms.size(x[i - lead]) != size else x[i - lead]
        for i, size in enumerate(shape)
    ]


def repeat(walk: Walk, arguments: Arguments) -> Axes:
    """Repeat whole axes, copy after copy: ``(copies, axis)``."""
    x, shape = walk.axes(arguments["self"]), walk.shape()
    x = [((),)] * (len(shape) - len(x)) + x
    out: Axes = []
    for axis, size in zip(x, shape, strict=True):
        axis = walk.atoms.resolve(axis)
        if walk.atoms.size(axis) == size:
            out.append(axis)
        elif len(axis) == 1:
            out.append(((*walk.atoms.new(size // walk.atoms.size(axis))[0], *axis[0]),))
        else:
            walk.atoms.fix(axis, f"repeated at {walk.where}")
            out.append(walk.atoms.new(size, f"repeated at {walk.where}"))
    return out


def repeat_interleave(walk: Walk, arguments: Arguments) -> Axes:
    """Repeat every position of an axis in place."""
    x, dim = list(walk.axes(arguments["self"])), arguments.get("dim")
    if dim is None or not isinstance(arguments["repeats"], int):
        return unknown(walk, arguments)[0]
    x[dim] = repeated(walk, x[dim], walk.shape()[dim])
    return x


def take(walk: Walk, arguments: Arguments) -> Axes:
    """Cut an axis at the ends of a slice and return the piece."""
    x, dim = list(walk.axes(arguments["self"])), arguments.get("dim", 0)
    size, new = walk.atoms.size(x[dim]), walk.shape()[dim]
    start = arguments.get("start") or 0
    start = min(max(start + size if start < 0 else start, 0), size)
    if new == size:
        return x
    if arguments.get("step", 1) != 1:
        walk.atoms.fix(x[dim], f"strided slice at {walk.where}")
        x[dim] = walk.atoms.new(new, f"strided slice at {walk.where}")
    else:
        x[dim] = walk.atoms.take(x[dim], start, start + new, f"cut at {walk.where}")
    return x


def select(walk: Walk, arguments: Arguments) -> Axes:
    """Fix an axis from which a single position is taken, and drop it."""
    x, dim = walk.axes(arguments["self"]), arguments.get("dim", 0)
    walk.atoms.fix(x[dim], f"single position selected at {walk.where}")
    return without(x, [dim])


def unbind(walk: Walk, arguments: Arguments) -> list[Axes]:
    """Fix an axis whose positions become separate tensors."""
    axes = select(walk, arguments)
    return [list(axes) for _ in walk.shapes()]


def split(walk: Walk, arguments: Arguments) -> list[Axes]:
    """Cut an axis into consecutive pieces."""
    x, dim, out, start = walk.axes(arguments["self"]), arguments.get("dim", 0), [], 0
    for shape in walk.shapes():
        part = list(x)
        part[dim] = walk.atoms.take(x[dim], start, start + shape[dim], f"cut at {walk.where}")
        start += shape[dim]
        out.append(part)
    return out


def cat(walk: Walk, arguments: Arguments) -> Axes:
    """Join the axes along `dim` in sequence; unify the other axes."""
    parts = [axes for axes in (walk.axes(node) for node in arguments["tensors"]) if len(axes) == len(walk.shape())]
    dim = arguments.get("dim", 0) % len(walk.shape())
    out = list(parts[0])
    for part in parts[1:]:
        for i, axis in enumerate(part):
            if i != dim:
                walk.atoms.unify(out[i], axis)
    out[dim] = tuple(term for part in parts for term in part[dim])
    return out


def stack(walk: Walk, arguments: Arguments) -> Axes:
    """Unify the axes of the operands and insert a new one at `dim`."""
    parts = [walk.axes(node) for node in arguments["tensors"]]
    for part in parts[1:]:
        for axis, first in zip(part, parts[0], strict=True):
            walk.atoms.unify(first, axis)
    dim = arguments.get("dim", 0) % len(walk.shape())
    out = list(parts[0])
    out.insert(dim, walk.atoms.new(len(parts), f"stacked at {walk.where}"))
    return out


def squeeze(walk: Walk, arguments: Arguments) -> Axes:
    """Add or drop axes of size 1; the other axes keep their order."""
    long = iter([axis for axis in walk.axes(arguments["self"]) if walk.atoms.size(axis) != 1])
    return [((),) if size == 1 else next(long) for size in walk.shape()]


def index(walk: Walk, arguments: Arguments) -> Axes:
    """Fix the indexed axes; the others pass through."""
    x, picks = walk.axes(arguments["self"]), arguments["indices"]
    dims = [i for i, pick in enumerate(picks) if pick is not None]
    for dim in dims:
        walk.atoms.fix(x[dim], f"positions are indexed at {walk.where}")
    for pick in picks:
        for axis in walk.axes(pick):
            walk.atoms.fix(axis, f"positions are indexed at {walk.where}")
    kept = without(x, dims)
    count = len(walk.shape()) - len(kept)
    position: int = dims[0] if dims == list(range(dims[0], dims[-1] + 1)) else 0
    fresh = [
        walk.atoms.new(size, f"positions are indexed at {walk.where}")
        for size in walk.shape()[position : position + count]
    ]
    return [*kept[:position], *fresh, *kept[position:]]


def along(walk: Walk, arguments: Arguments) -> Axes:
    """Fix the axes along which order matters to cumulative operations, flips and rolls; all axes if none is named."""
    x = walk.axes(arguments["self"])
    dims = arguments.get("dim", arguments.get("dims"))
    for dim in range(len(x)) if dims is None or dims == [] else dims if isinstance(dims, list | tuple) else [dims]:
        walk.atoms.fix(x[dim], f"order matters at {walk.where}")
    return x


def triangle(walk: Walk, arguments: Arguments) -> Axes:
    """Fix the last two axes, whose order decides what lies on which side of the diagonal."""
    x = walk.axes(arguments["self"])
    for axis in x[-2:]:
        walk.atoms.fix(axis, f"order matters at {walk.where}")
    return x
