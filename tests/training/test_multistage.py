"""MultiStage and apriori tuning, compared with the two cuts written as loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tilewright import parse
from tilewright.errors import ArgumentError
from tilewright.patterns import TileWise, project, verify_mask
from tilewright.pruning import masks_of, patterns_of
from tilewright.training import Apriori, MultiStage, Sparsifier
from tilewright.training.methods.apriori import tuned_masks

from .test_sparsifier import data, loop, loss_of, network, sgd


def two_cuts(scores: list[np.ndarray], tile: int, sparsity: float, limits: Apriori | None) -> list[np.ndarray]:
    """Tile-wise pruning element by element; with limits, ranked by class first."""
    flat = sorted((s for score in scores for s in score.ravel()), reverse=True)
    budget = round((1 - sparsity) * len(flat))
    single = [score >= flat[budget - 1] if budget else np.zeros(score.shape, bool) for score in scores]

    def rank(share: float) -> int:
        return 0 if limits is None else int(share >= limits.protect) - int(share <= limits.drop)

    outputs = [
        (rank(single[i][n].mean()), np.sqrt((score[n] ** 2).sum()) / score.shape[1], -i, -n)
        for i, score in enumerate(scores)
        for n in range(len(score))
    ]
    outputs.sort(reverse=True)
    alive = {(-i, -n) for *_, i, n in outputs[: round(len(outputs) * np.sqrt(1 - sparsity))]}
    columns = []
    for i, score in enumerate(scores):
        rows = [n for n in range(len(score)) if (i, n) in alive]
        starts = list(range(0, len(rows), tile))
        for t, start in enumerate(starts):
            group = rows[start : start + tile]
            begin = 0 if t == 0 else rows[start - 1] + 1
            end = len(score) if t == len(starts) - 1 else group[-1] + 1
            for k in range(score.shape[1]):
                value = np.sqrt((score[group, k] ** 2).sum()) / (end - begin)
                columns.append((rank(single[i][group, k].mean()), value, -i, -t, -k, tuple(group)))
    columns.sort(reverse=True)
    masks, left = [np.zeros(score.shape, bool) for score in scores], budget
    for _, _, i, _, k, group in columns:
        if len(group) > left:
            break  # scores are distinct here, so no later column of the same score can fit
        masks[-i][list(group), -k] = True
        left -= len(group)
    return masks


@st.composite
def layers(draw):
    shapes = draw(st.lists(st.tuples(st.integers(2, 11), st.integers(2, 9)), min_size=1, max_size=3))
    generator = np.random.default_rng(draw(st.integers(0, 10**6)))
    spread = draw(st.sampled_from([0.5, 2.0]))
    return [
        np.exp(
            generator.normal(size=s) * 0.3
            + spread * generator.normal(size=(s[0], 1))
            + spread * generator.normal(size=s[1])
        )
        for s in shapes
    ]


@settings(max_examples=60, deadline=None)
@given(
    layers(),
    st.integers(1, 5),
    st.sampled_from([0.3, 0.5, 0.75, 0.9]),
    st.sampled_from([(0.95, 0.05), (0.6, 0.4), (1.0, 0.0)]),
)
def test_tuned_tile_wise_masks_are_the_two_cuts_by_class(scores, tile, sparsity, limits) -> None:
    chosen = Apriori(*limits)
    named = {str(i): score for i, score in enumerate(scores)}
    masks = tuned_masks(TileWise(tile, sparsity), named, chosen)
    for i, expected in enumerate(two_cuts(scores, tile, sparsity, chosen)):
        assert np.array_equal(masks[str(i)], expected)


@settings(max_examples=30, deadline=None)
@given(layers(), st.integers(1, 5), st.sampled_from([0.3, 0.5, 0.75]))
def test_limits_that_nothing_reaches_change_nothing(scores, tile, sparsity) -> None:
    named = {str(i): score for i, score in enumerate(scores)}
    plain = project(TileWise(tile, sparsity), named)
    assert all(np.array_equal(plain[str(i)], m) for i, m in enumerate(two_cuts(scores, tile, sparsity, None)))


@pytest.mark.parametrize("pattern", ["tw16@60%", "tew16@60%+5%", "tvw16@70%"])
def test_protected_columns_are_kept_and_dropped_ones_go_first(pattern: str) -> None:
    generator = np.random.default_rng(0)
    scores = generator.uniform(0.5, 1.5, (32, 48))
    scores[:, 5] = 0.1
    scores[0, 5] = 200.0  # one element raises the norm of a column that is otherwise pruned
    scores[1:, 7] = 1.51  # all elements among the best
    limits = Apriori(protect=0.9, drop=0.2)
    tuned = tuned_masks(parse(pattern), {"w": scores}, limits)["w"]
    tile = np.flatnonzero(tuned.any(axis=1))[:16]
    assert project(parse(pattern), {"w": scores})["w"][0, 5]
    assert tuned[tile, 7].any()
    assert tuned[0, 5] == pattern.startswith("tew")  # what the tile drops, the overlay may restore
    assert not tuned[1:16, 5].any()
    assert verify_mask(parse(pattern), tuned)
    assert tuned.mean() == pytest.approx(parse(pattern).density, abs=0.02)


@pytest.mark.parametrize("kind", ["tw4@{}%", "tew4@{}%+4%", "tvw4@{}%"])
@pytest.mark.parametrize("apriori", [None, Apriori(0.8, 0.2)])
def test_stages_fall_one_after_another_over_all_layers(kind: str, apriori: Apriori | None) -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(12, 32), nn.Tanh(), nn.Linear(32, 24), nn.Tanh(), nn.Linear(24, 8))
    levels = (55, 70, 80)
    plan = MultiStage([kind.format(s) for s in levels], every=5, scoring_steps=2, apriori=apriori)
    sparsifier = Sparsifier(model, plan, steps=15).attach(optimizer := sgd(model, lr=0.05))
    loop(model, optimizer, 1)
    assert sparsifier.report().summary["sparsity of the pruned"] == 0
    for step, level in zip((1, 6, 11), levels, strict=True):
        loop(model, optimizer, 1, step)
        assert sparsifier.report().summary["sparsity of the pruned"] == pytest.approx(level / 100, abs=0.05)
        assert {str(p) for p in patterns_of(model).values()} == {kind.format(level)}
        loop(model, optimizer, 4, step + 1)
    densities = [row["density"] for row in sparsifier.finish().rows]
    assert len(set(densities)) == 3  # the budget is shared, not split evenly
    assert not any(mask.all() for mask in masks_of(model).values())


def test_scores_start_anew_after_each_cut() -> None:
    plan = MultiStage(["any@30%", "any@60%"], every=4, begin=2, scoring_steps=1)
    model = network()
    Sparsifier(model, plan).attach(optimizer := sgd(model))
    loop(model, optimizer, 5)
    twin = network()
    twin.load_state_dict({k: v for k, v in model.state_dict().items() if not k.endswith("_mask")})
    loss_of(twin, data(5)).backward()
    sums = {n: (p.detach() * p.grad).abs().numpy() for n, p in twin.named_parameters() if p.ndim == 2}
    loop(model, optimizer, 1, 5)
    expected = project(parse("any@60%"), sums)
    for name, mask in masks_of(model).items():
        assert np.array_equal(mask, expected[name])


def test_stages_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(
        ArgumentError, match="each stage must be sparser than the one before, but tw4@25% follows tw4@50%"
    ):
        MultiStage(["tw4@50%", "tw4@25%"], every=5)
    with pytest.raises(ArgumentError, match="stages of MultiStage must be a list of patterns; got 'tw4@50%'"):
        MultiStage("tw4@50%", every=5)
    with pytest.raises(ArgumentError, match="stages of MultiStage must be tile-wise for apriori tuning; got 'any@50%'"):
        MultiStage(["any@50%"], every=5, apriori=Apriori())
    with pytest.raises(ArgumentError, match=r"0 <= drop < protect <= 1; got drop=0\.5, protect=0\.2"):
        Apriori(0.2, 0.5)
    with pytest.raises(
        ArgumentError, match="MultiStage prunes all targets to the same patterns; targets must be a list"
    ):
        Sparsifier(network(), MultiStage(["tw4@50%"], every=5), targets={"0": "tw2@50%"})
