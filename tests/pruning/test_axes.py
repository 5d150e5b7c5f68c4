"""Atoms, terms and axes: merging, splitting and cutting preserve sizes and the meaning of the axes."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.pruning.permute.axes import Atoms, Axis


def sizes_of(atoms: Atoms, axes: list[Axis]) -> list[int]:
    return [atoms.size(axis) for axis in axes]


def test_a_head_split_and_back_is_the_same_axis() -> None:
    atoms = Atoms()
    channels = atoms.new(12)
    heads, inside = atoms.regroup([channels], [3, 4])
    assert sizes_of(atoms, [heads, inside]) == [3, 4]
    (back,) = atoms.regroup([heads, inside], [12])
    assert back == atoms.resolve(channels) == ((heads[0][0], inside[0][0]),)


def test_three_runs_of_a_packed_weight_unify_with_their_pieces() -> None:
    atoms = Atoms()
    packed, piece = atoms.new(12), atoms.new(4)
    slices = [atoms.take(packed, start, start + 4, "cut") for start in (0, 4, 8)]
    atoms.unify(slices[1], piece)
    first, second, third = atoms.resolve(packed)
    assert (second,) == atoms.resolve(piece)
    assert len({first, second, third}) == 3
    assert atoms.resolve(slices[0]) == (first,)


def test_reasons_travel_through_merging_and_splitting() -> None:
    atoms = Atoms()
    left, right = atoms.new(6), atoms.new(6)
    atoms.fix(right, "graph output")
    atoms.unify(left, right)
    outer, inner = atoms.regroup([left], [2, 3])
    assert atoms.fixed(outer)
    assert atoms.fixed(inner)
    assert atoms.reason(atoms.resolve(left)[0][0]) == "graph output"


def test_what_does_not_divide_is_fixed() -> None:
    atoms = Atoms()
    six, four = atoms.new(6), atoms.new(4)
    atoms.regroup([six, four], [4, 6])
    assert atoms.fixed(six)
    a, b, c, d = (atoms.new(size) for size in (2, 6, 3, 4))
    atoms.unify((a[0] + b[0],), (c[0] + d[0],))
    assert all(atoms.fixed(axis) for axis in (a, b, c, d))


def test_a_cut_inside_a_product_is_fixed_and_its_neighbours_are_not() -> None:
    atoms = Atoms()
    channels = atoms.new(12)
    heads, inside = atoms.regroup([channels], [3, 4])
    half = atoms.take(inside, 0, 2, "cut")
    resolved = atoms.resolve(channels)
    assert atoms.size(resolved) == 12
    assert atoms.fixed(half)
    assert atoms.fixed(inside)
    assert not atoms.fixed(heads)


def test_axes_of_one_need_no_atom() -> None:
    atoms = Atoms()
    assert atoms.new(1) == ((),)
    assert atoms.regroup([atoms.new(1), atoms.new(1)], [1]) == [((),)]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_reshapes_keep_sizes_and_positions(data: st.DataObject) -> None:
    """If nothing was fixed, the new axes have the same positions in row-major order as the old ones."""
    factors = data.draw(st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=6))

    def grouped() -> list[int]:
        cuts = data.draw(st.lists(st.booleans(), min_size=len(factors) - 1, max_size=len(factors) - 1))
        sizes = [factors[0]]
        for factor, cut in zip(factors[1:], cuts, strict=True):
            sizes = [*sizes, factor] if cut else [*sizes[:-1], sizes[-1] * factor]
        return sizes

    atoms = Atoms()
    old = [atoms.new(size) for size in grouped()]
    shape = grouped()
    new = atoms.regroup(old, shape)
    assert sizes_of(atoms, new) == shape
    flat = [atom for axis in old for term in atoms.resolve(axis) for atom in term]
    again = [atom for axis in new for term in atoms.resolve(axis) for atom in term]
    if not any(atoms.reason(atom) for atom in flat):
        assert flat == again
    assert np.prod([atoms.length(atom) for atom in flat], initial=1) == np.prod(shape)
