"""How operations that move, cut, join or resize axes carry them: reshapes, slices, concatenations, pooling, indexing."""

from collections.abc import Sequence

from .axes import Axis
from .walk import Axes, Given, Walk, unknown

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
    """Every position several times in a row: ``(axis, copies)``."""
    axis = walk.atoms.resolve(axis)
    copies = walk.atoms.new(size // walk.atoms.size(axis))
    if len(axis) != 1 or len(copies) != 1:
        walk.atoms.fix(axis, f"repeated at {walk.where}")
        return walk.atoms.new(size, f"repeated at {walk.where}")
    return ((*axis[0], *copies[0]),)


def without(axes: Axes, dims: Sequence[int]) -> Axes:
    """Return the axes but for those of the given numbers."""
    gone = {dim % len(axes) for dim in dims} if axes else set()
    return [axis for i, axis in enumerate(axes) if i not in gone]


def _resized(walk: Walk, x: Axes, kept: int) -> Axes:
    reason = f"a spatial axis of {walk.where}"
    for axis in x[kept:]:
        walk.atoms.fix(axis, reason)
    return [*x[:kept], *(walk.atoms.new(size, reason) for size in walk.shape()[kept:])]


def pad(walk: Walk, given: Given) -> Axes:
    """Only the padded axes, counted from the last, are fixed."""
    x, amounts = walk.axes(given["self"]), given["pad"]
    return _resized(walk, x, len(x) - len(amounts) // 2)


def pool(walk: Walk, given: Given) -> Axes:
    """Two-dimensional pooling and resizing change the last two axes; channels pass."""
    x = walk.axes(next(iter(given.values())))
    return _resized(walk, x, len(x) - 2)


def pool1d(walk: Walk, given: Given) -> Axes:
    """The same along one axis."""
    x = walk.axes(given["self"])
    return _resized(walk, x, len(x) - 1)


def reshape(walk: Walk, given: Given) -> Axes:
    """Row-major order is kept: axes are split and joined."""
    return walk.atoms.regroup(walk.axes(given["self"]), walk.shape())


def transpose(walk: Walk, given: Given) -> Axes:
    """Exchange two axes; ``t`` exchanges both there are."""
    x = list(walk.axes(given["self"]))
    if len(x) > 1:
        a, b = given.get("dim0", 0), given.get("dim1", 1)
        x[a], x[b] = x[b], x[a]
    return x


def reverse(walk: Walk, given: Given) -> Axes:
    """All axes in the opposite order."""
    return walk.axes(given["self"])[::-1]


def adjoint(walk: Walk, given: Given) -> Axes:
    """Exchange the last two axes."""
    x = walk.axes(given["self"])
    return [*x[:-2], x[-1], x[-2]]


def permute(walk: Walk, given: Given) -> Axes:
    """Reorder the axes."""
    x = walk.axes(given["self"])
    return [x[dim] for dim in given["dims"]]


def expand(walk: Walk, given: Given) -> Axes:
    """Copies along an axis of one are all equal: any order will do."""
    x, shape = walk.axes(given["self"]), walk.shape()
    lead = len(shape) - len(x)
    return [
        walk.atoms.new(size) if i < lead or walk.atoms.size(x[i - lead]) != size else x[i - lead]
        for i, size in enumerate(shape)
    ]


def repeat(walk: Walk, given: Given) -> Axes:
    """Whole copies one after the other: ``(copies, axis)``."""
    x, shape = walk.axes(given["self"]), walk.shape()
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


def repeat_interleave(walk: Walk, given: Given) -> Axes:
    """Every position several times in a row."""
    x, dim = list(walk.axes(given["self"])), given.get("dim")
    if dim is None or not isinstance(given["repeats"], int):
        return unknown(walk, given)[0]
    x[dim] = repeated(walk, x[dim], walk.shape()[dim])
    return x


def take(walk: Walk, given: Given) -> Axes:
    """A slice: a piece of an axis that is cut there."""
    x, dim = list(walk.axes(given["self"])), given.get("dim", 0)
    size, new = walk.atoms.size(x[dim]), walk.shape()[dim]
    start = given.get("start") or 0
    start = min(max(start + size if start < 0 else start, 0), size)
    if new == size:
        return x
    if given.get("step", 1) != 1:
        walk.atoms.fix(x[dim], f"every other channel is taken at {walk.where}")
        x[dim] = walk.atoms.new(new, f"every other channel is taken at {walk.where}")
    else:
        x[dim] = walk.atoms.take(x[dim], start, start + new, f"cut at {walk.where}")
    return x


def select(walk: Walk, given: Given) -> Axes:
    """One position of an axis."""
    x, dim = walk.axes(given["self"]), given.get("dim", 0)
    walk.atoms.fix(x[dim], f"single positions are taken at {walk.where}")
    return without(x, [dim])


def unbind(walk: Walk, given: Given) -> list[Axes]:
    """Every position of an axis as a tensor."""
    one = select(walk, given)
    return [list(one) for _ in walk.shapes()]


def split(walk: Walk, given: Given) -> list[Axes]:
    """Consecutive pieces of an axis."""
    x, dim, out, start = walk.axes(given["self"]), given.get("dim", 0), [], 0
    for shape in walk.shapes():
        piece = list(x)
        piece[dim] = walk.atoms.take(x[dim], start, start + shape[dim], f"cut at {walk.where}")
        start += shape[dim]
        out.append(piece)
    return out


def cat(walk: Walk, given: Given) -> Axes:
    """Axes one after the other; the others are shared."""
    parts = [axes for axes in (walk.axes(node) for node in given["tensors"]) if len(axes) == len(walk.shape())]
    dim = given.get("dim", 0) % len(walk.shape())
    out = list(parts[0])
    for part in parts[1:]:
        for i, axis in enumerate(part):
            if i != dim:
                walk.atoms.unify(out[i], axis)
    out[dim] = tuple(term for part in parts for term in part[dim])
    return out


def stack(walk: Walk, given: Given) -> Axes:
    """A new axis in front of shared ones."""
    parts = [walk.axes(node) for node in given["tensors"]]
    for part in parts[1:]:
        for axis, first in zip(part, parts[0], strict=True):
            walk.atoms.unify(first, axis)
    dim = given.get("dim", 0) % len(walk.shape())
    out = list(parts[0])
    out.insert(dim, walk.atoms.new(len(parts), f"stacked at {walk.where}"))
    return out


def squeeze(walk: Walk, given: Given) -> Axes:
    """Axes of one position come and go: those of the result are matched with the operand's in order."""
    long = iter([axis for axis in walk.axes(given["self"]) if walk.atoms.size(axis) != 1])
    return [((),) if size == 1 else next(long) for size in walk.shape()]


def index(walk: Walk, given: Given) -> Axes:
    """Rows picked by number: the axes that are indexed are fixed, the others pass."""
    x, picks = walk.axes(given["self"]), given["indices"]
    dims = [i for i, pick in enumerate(picks) if pick is not None]
    for dim in dims:
        walk.atoms.fix(x[dim], f"positions are picked at {walk.where}")
    for pick in picks:
        for axis in walk.axes(pick):
            walk.atoms.fix(axis, f"positions are picked at {walk.where}")
    kept = without(x, dims)
    new = len(walk.shape()) - len(kept)
    at: int = dims[0] if dims == list(range(dims[0], dims[-1] + 1)) else 0
    fresh = [walk.atoms.new(size, f"positions are picked at {walk.where}") for size in walk.shape()[at : at + new]]
    return [*kept[:at], *fresh, *kept[at:]]


def along(walk: Walk, given: Given) -> Axes:
    """Cumulative operations, flips and rolls go by order along some axes; those that name none go along all."""
    x = walk.axes(given["self"])
    dims = given.get("dim", given.get("dims"))
    for dim in range(len(x)) if dims is None or dims == [] else dims if isinstance(dims, list | tuple) else [dims]:
        walk.atoms.fix(x[dim], f"order matters at {walk.where}")
    return x


def triangle(walk: Walk, given: Given) -> Axes:
    """What lies on which side of the diagonal is a matter of order."""
    x = walk.axes(given["self"])
    for axis in x[-2:]:
        walk.atoms.fix(axis, f"order matters at {walk.where}")
    return x
