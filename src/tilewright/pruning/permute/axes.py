"""How the axes of a network's tensors relate: a small algebra of index sets.

An *atom* is a set of positions that is permuted as a unit, such as the channels of a residual stream or the positions inside an
attention head. A *term* is a product of atoms in row-major order: the 768 features before a head split are ``(heads, positions)``. An
*axis* is a sequence of terms: the rows of a packed query-key-value weight are three terms. Unifying two axes merges their atoms, and
splits them where the axes are composed of different parts. An atom that must not be permuted carries the reason.
"""

from math import prod

__all__ = ["Atoms", "Axis", "Term"]

Term = tuple[int, ...]
Axis = tuple[Term, ...]

_MISALIGNED = "its channels are regrouped into sizes that do not divide each other"


class Atoms:
    """All atoms of one network, merged and split during the walk through its operations."""

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self._reasons: list[str] = []
        self._parts: dict[int, Axis] = {}

    def new(self, size: int, reason: str = "") -> Axis:
        """Return an axis of one new atom; an axis of size 1 has no atoms."""
        if size == 1:
            return ((),)
        self._sizes.append(size)
        self._reasons.append(reason)
        return ((len(self._sizes) - 1,),)

    def size(self, axis: Axis) -> int:
        """Return the number of positions of an axis."""
        return sum(self._term_size(term) for term in axis)

    def length(self, atom: int) -> int:
        """Return the number of positions of an atom."""
        return self._sizes[atom]

    def reason(self, atom: int) -> str:
        """Return why an atom (of a resolved axis) must not be permuted; empty if it may be."""
        return self._reasons[atom]

    def fix(self, axis: Axis, reason: str) -> None:
        """Forbid permuting any atom of an axis; an atom keeps its first reason."""
        for term in self.resolve(axis):
            for atom in term:
                self._reasons[atom] = self._reasons[atom] or reason

    def fixed(self, axis: Axis) -> bool:
        """Return whether no atom of an axis may be permuted."""
        return all(self._reasons[atom] for term in self.resolve(axis) for atom in term)

    def resolve(self, axis: Axis) -> Axis:
        """Return the axis in current atoms, which have not been merged or split."""
        out: list[Term] = []
        for term in axis:
            out += self._resolve_term(term)
        return tuple(out)

    def unify(self, left: Axis, right: Axis) -> None:
        """Require two axes of the same size to be permuted alike."""
        a, b = list(self.resolve(left)), list(self.resolve(right))
        while a and b:
            x, y = a[0], b[0]
            if self._term_size(x) == self._term_size(y):
                self._unify_terms(x, y)
                a, b = a[1:], b[1:]
            elif not self._cut(
                *((x, self._term_size(y)) if self._term_size(x) > self._term_size(y) else (y, self._term_size(x)))
            ):
                self.fix(tuple(a) + tuple(b), _MISALIGNED)
                return
            a, b = list(self.resolve(tuple(a))), list(self.resolve(tuple(b)))

    def take(self, axis: Axis, start: int, stop: int, reason: str) -> Axis:
        """Return the positions ``start .. stop - 1`` of an axis, which is cut there if possible and otherwise fixed for the reason."""
        if self.fixed(axis):
            return self.new(stop - start, reason)
        for at in (start, stop):
            if not self._cut_at(axis, at):
                self.fix(axis, reason)
                return self.new(stop - start, reason)
        out, position = [], 0
        for term in self.resolve(axis):
            if start <= position < stop:
                out.append(term)
            position += self._term_size(term)
        return tuple(out)

    def regroup(self, axes: list[Axis], sizes: list[int]) -> list[Axis]:
        """Return the axes of a tensor reshaped to `sizes`, splitting atoms where a new axis begins inside an old one."""
        left = [self.resolve(axis) for axis in axes if self.size(axis) != 1]
        out: list[Axis] = []
        for index, size in enumerate(sizes):
            if size == 1:
                out.append(((),))
                continue
            left = [self.resolve(axis) for axis in left]
            if left and self.size(left[0]) == size:
                out.append(left.pop(0))
                continue
            term = self._gather(left, size)
            if term is None:
                for axis in left:
                    self.fix(axis, _MISALIGNED)
                return out + [self.new(rest, _MISALIGNED) for rest in sizes[index:]]
            out.append((term,))
        return out

    def _gather(self, left: list[Axis], size: int) -> Term | None:
        """Take atoms with a product of `size` from the front of a tensor's axes, splitting the last; None if sizes do not divide."""
        gathered: list[int] = []
        while size > 1:
            if not left or len(left[0]) != 1:
                return None
            term = left.pop(0)[0]
            atom, rest = term[0], term[1:]
            atom_size = self._sizes[atom]
            if size % atom_size == 0:
                gathered.append(atom)
                size //= atom_size
            elif atom_size % size == 0:
                outer, inner = self._split(atom, size)
                gathered.append(outer)
                rest, size = (inner, *rest), 1
            else:
                left.insert(0, (term,))
                return None
            if rest:
                left.insert(0, (rest,))
        return tuple(gathered)

    def _split(self, atom: int, outer: int) -> tuple[int, int]:
        """Replace an atom by the product of two; both inherit its reason."""
        size, reason = self._sizes[atom], self._reasons[atom]
        ((a,),), ((b,),) = self.new(outer, reason), self.new(size // outer, reason)
        self._parts[atom] = ((a, b),)
        return a, b

    def _cut(self, term: Term, at: int) -> bool:
        """Replace the single atom of a term by two in sequence, the first of size `at`; False if the term is a product."""
        if len(term) != 1:
            return False
        atom = term[0]
        reason = self._reasons[atom]
        self._parts[atom] = self.new(at, reason) + self.new(self._sizes[atom] - at, reason)
        return True

    def _cut_at(self, axis: Axis, at: int) -> bool:
        position = 0
        for term in self.resolve(axis):
            size = self._term_size(term)
            if position < at < position + size:
                return self._cut(term, at - position)
            position += size
        return True

    def _unify_terms(self, x: Term, y: Term) -> None:
        """Merge two terms of equal size factor by factor, from the outermost."""
        while x and y:
            a, b = x[0], y[0]
            if a == b:
                x, y = x[1:], y[1:]
            elif self._sizes[a] == self._sizes[b]:
                self._reasons[a] = self._reasons[a] or self._reasons[b]
                self._parts[b] = ((a,),)
                x, y = self._again(x[1:]), self._again(y[1:])
            else:
                big, small = (a, b) if self._sizes[a] > self._sizes[b] else (b, a)
                if self._sizes[big] % self._sizes[small]:
                    self.fix((x, y), _MISALIGNED)
                    return
                self._split(big, self._sizes[small])
                x, y = self._again(x), self._again(y)

    def _again(self, term: Term) -> Term:
        return self._resolve_term(term)[0] if term else term

    def _term_size(self, term: Term) -> int:
        return prod(self._sizes[atom] for atom in term)

    def _resolve_term(self, term: Term) -> list[Term]:
        """Return a term in current atoms. A sequence inside a product cannot be expressed as a term, so it is fixed."""
        if len(term) == 1:
            return list(self.resolve(self._parts[term[0]])) if term[0] in self._parts else [term]
        out: list[int] = []
        for atom in term:
            if atom not in self._parts:
                out.append(atom)
                continue
            parts = self.resolve(self._parts[atom])
            if len(parts) > 1:
                why = "it is cut into pieces inside each head or group, as rotary embeddings do"
                self.fix(parts, why)
                parts = self._parts[atom] = self.new(self._sizes[atom], why)
            out += parts[0]
        return [tuple(out)]
