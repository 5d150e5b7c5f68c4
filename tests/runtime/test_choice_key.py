"""A layer is measured again if anything its remembered choice depends on changes; a layer with wrong results is never measured."""

import numpy as np
import pytest
import torch

from tilewright.errors import CheckFailed
from tilewright.formats import pack
from tilewright.kernels import implementations
from tilewright.patterns import mask, parse
from tilewright.runtime import SparseLinear, choose
from tilewright.runtime.measured import choice, timing
from tilewright.runtime.measured.memory import Memory

from ..frozen import check_value, values_of


def quick(dense, sparse, inputs):
    """Skip the rounds but not the check, and assume a quiet machine."""
    for x in inputs:
        timing._check(dense, sparse, x)
    return [timing.Timing(1.0, 1.0, True) for _ in inputs]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path))
    monkeypatch.setattr(choice, "timings", quick)
    monkeypatch.delenv("TILEWRIGHT_KERNEL", raising=False)


def layer(text="2:4", N=48, K=64, dtype=torch.float32, bias=True, activation="none", layout="linear"):
    weight = np.random.default_rng(0).standard_normal((N, K)).astype(np.float32)
    kept = mask(parse(text), np.abs(weight))
    packed = pack(np.where(kept, weight, 0).astype(np.float32), parse(text), kept)
    sparse = SparseLinear(packed, torch.ones(N) if bias else None, activation, layout)
    sparse.surrounding = dtype
    return sparse


def remembered():
    """Return what was measured, by key."""
    return dict(Memory().items())


def test_an_equal_layer_is_not_measured_again():
    first = choose(layer(), (16,))
    assert len(remembered()) == 1
    assert choose(layer(), (16,)) == first
    assert len(remembered()) == 1


CHANGES = {
    "outputs": lambda patch: choose(layer(N=56), (16,)),
    "bias": lambda patch: choose(layer(bias=False), (16,)),
    "activation": lambda patch: choose(layer(activation="relu"), (16,)),
    "layout": lambda patch: choose(layer(layout="transposed"), (16,)),
    "tile": lambda patch: choose(layer("2:4x2"), (16,)),
    "last cache": lambda patch: (patch.setattr(choice, "last_cache_bytes", lambda: 1 << 20), choose(layer(), (16,))),
    "processor": lambda patch: (patch.setattr(choice, "machine", lambda: {"cpu": "another"}), choose(layer(), (16,))),
    "inputs": lambda patch: choose(layer(K=72), (16,)),
    "pattern": lambda patch: choose(layer("4:8"), (16,)),
    "type around it": lambda patch: choose(layer(dtype=torch.bfloat16), (16,)),
    "tokens": lambda patch: choose(layer(), (17,)),
    "the usual tokens": lambda patch: choose(layer()),
    "kernel": lambda patch: (patch.setenv("TILEWRIGHT_KERNEL", "generic"), choose(layer(), (16,))),
    "torch": lambda patch: (patch.setattr(torch, "__version__", "0.0.1"), choose(layer(), (16,))),
    "tilewright": lambda patch: (patch.setattr("tilewright.__version__", "0.0.0"), choose(layer(), (16,))),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_layer_is_measured_again_when_one_thing_changes(what, monkeypatch):
    if what == "kernel" and next(i.name for i in implementations() if i.available) == "generic":
        pytest.skip("the generic kernels are the best here, so that forcing them changes nothing")
    choose(layer(), (16,))
    before = set(remembered())
    CHANGES[what](monkeypatch)
    assert len(set(remembered()) - before) == 1


def test_threads_are_part_of_a_choice():
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            assert choose(layer(), (16,)).threads == threads
    finally:
        torch.set_num_threads(before)
    assert len(remembered()) == 2


def test_layers_of_one_pattern_that_keep_different_shares_are_told_apart():
    """A global ranking gives each layer its own density: under the same pattern, a layer may keep an eighth or everything."""
    kept = {share: np.zeros((48, 64), dtype=bool) for share in (1, 2, 8)}
    for share, where in kept.items():
        where[:, : 64 // share] = True
        weight = np.where(where, 1.5, 0).astype(np.float32)
        choose(SparseLinear(pack(weight, parse("tw8@50%"), where), None), (16,))
    assert len(remembered()) == len(kept)


@pytest.mark.parametrize(
    ("dtype", "inside", "outside"),
    [(torch.float32, 0.0, 0.01), (torch.bfloat16, 0.005, 0.2), (torch.float16, 0.005, 0.2)],
)
def test_a_layer_that_differs_from_its_dense_form_is_not_measured(dtype, inside, outside, monkeypatch):
    original = SparseLinear.dense

    def choose_off_by(share):
        def dense(self):
            plain = original(self)
            with torch.no_grad():
                for parameter in plain.parameters():
                    parameter.mul_(1 + share)
            return plain

        monkeypatch.setattr(SparseLinear, "dense", dense)
        return choose(layer(dtype=dtype), (16,))

    with pytest.raises(CheckFailed, match="from its dense form on this machine; its speed is not measured"):
        choose_off_by(outside)
    assert not remembered()
    assert choose_off_by(inside).ratios.keys() == {16}


@pytest.mark.parametrize("kind", values_of("tilewright.runtime"), ids=lambda kind: kind.__name__)
def test_values_are_frozen(kind):
    check_value(kind, mutable=("TilewrightConfig",))  # transformers fills that one in


@pytest.mark.parametrize("bias", [True, False])
def test_the_key_names_a_bias_where_there_is_one(bias):
    assert (" | bias none | " in choice.key_of(layer(bias=bias), (16,))) == bias
