"""The GPU model against published times, with the tolerance of each comparison."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from tilewright.hardware.engines.tensor_core import run
from tilewright.hardware.machine.presets import preset
from tilewright.patterns import NM, TileWise

FOLDER = Path(__file__).parents[2] / "benchmarks" / "validation"
GPUS = ["a100", "rtx3090", "t4", "v100"]


@pytest.fixture(scope="module")
def scripts():
    """The validation scripts as modules; their folder is removed from the path afterwards."""
    sys.path.insert(0, str(FOLDER))
    try:
        yield {
            name: importlib.import_module(name) for name in ("tensor_core", "_gpu_fits", "_shapes", "_gpu_published")
        }
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def points(scripts):
    return scripts["tensor_core"].points()


def errors(points, group):
    matches = [point.error for point in points if point.group == group]
    assert matches
    return np.abs(matches)


def test_every_point_lies_within_its_tolerance(points):
    beyond = [(p.group, p.name, p.error) for p in points if p.tolerance is not None and abs(p.error) > p.tolerance]
    assert not beyond


def test_rtx3090_times_by_inputs_hold_on_points_that_fitted_nothing(points, scripts):
    published = scripts["_gpu_published"]
    fitted = {(outputs, inputs, tokens) for outputs, inputs, tokens, *_ in published.BERT_SHAPES}
    fitted |= {(768, inputs, 4096) for inputs, *_ in published.BY_INPUTS[768]}
    assert not fitted & {(1024, inputs, 4096) for inputs, *_ in published.BY_INPUTS[1024]}
    for kind in ("dense", "2:4"):
        matches = errors(points, f"RTX 3090 {kind}, 1024 outputs")
        assert len(matches) == 16
        assert matches.mean() <= 0.10
        assert matches.max() <= 0.20


def test_the_speed_up_of_two_of_four_tends_to_two_in_whole_waves(points):
    ratios = [p.modelled for p in points if p.group == "limit of 2:4" and p.name.startswith("10496")]
    assert ratios == sorted(ratios)
    assert 1.99 < ratios[-1] <= 2
    ragged = [p.modelled for p in points if p.group == "limit of 2:4" and p.name.startswith("1024")]
    assert max(ragged) < ratios[-1]


def test_bert_ratios_and_which_batches_the_host_bounds(points):
    matches = {p.name: p for p in points if p.group == "BERT-base 2:4 speed-up"}
    assert len(matches) == 8
    assert sum(p.held for p in matches.values()) == 6
    assert all(abs(p.error) <= 0.15 for p in matches.values())
    host = {name for name, p in matches.items() if "dense bound by the host" in p.note}
    assert host == {"eager, batch 4", "compiled, batch 4"}


def test_tile_wise_products_hold_though_only_dense_ones_were_fitted(points):
    assert all(p.held for p in points if p.group == "V100 tile-wise")
    assert errors(points, "V100 tile-wise").max() <= 0.20
    assert len(errors(points, "V100 tile-wise")) == 3


def test_t4_rates(points):
    assert errors(points, "T4 MLPerf offline").max() <= 0.20


def test_presets_hold_the_constants_that_their_points_give(scripts):
    for name, (ours, used) in scripts["_gpu_fits"].constants().items():
        assert used == pytest.approx(ours, rel=0.04), name


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("pattern", [None, NM(2, 4), TileWise(128, 0.75)], ids=["dense", "2:4", "tile-wise"])
def test_analytical_and_tiles_agree_over_bert_base_and_resnet50(gpu, pattern, scripts):
    shapes, spec = scripts["_shapes"], preset(gpu)
    networks = [shapes.known("bert-base", batch, pattern, 384) for batch in (1, 8)]
    networks += [shapes.known("resnet50", batch, pattern) for batch in (1, 8)]
    different = {(o.M, o.N, o.K, o.copies, o.reads): o for network in networks for o in network if o.is_product}
    for operation in different.values():
        results = [run(spec, operation, "float16", fidelity) for fidelity in ("analytical", "tiles")]
        memory = results[1].causes.get("bandwidth", 0) > results[1].causes.get("useful", 0)
        assert abs(results[0].cycles / results[1].cycles - 1) <= (0.05 if memory else 0.01), operation.name
