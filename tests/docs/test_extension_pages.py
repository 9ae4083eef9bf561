"""The pages on adding a format, a prior, a scene and a metric hold code that runs and passes its own tests."""

from __future__ import annotations

import re
import shutil
from types import SimpleNamespace

import pytest
import torch
import yaml
from torch.testing import assert_close

import gs_ssd
from gs_ssd.assets import CONFIGS, ROOT
from gs_ssd.errors import UserError
from gs_ssd.scene import load_gaussians, save_gaussians
from gs_ssd.scene.formats import FORMATS
from tests.docs.pages import blocks, run
from tests.synthetic import random_gaussians


@pytest.fixture
def points(monkeypatch) -> dict:
    names = run(
        "add-a-format.md",
        pytest=pytest,
        UserError=UserError,
        assert_close=assert_close,
        load_gaussians=load_gaussians,
        save_gaussians=save_gaussians,
    )
    monkeypatch.setitem(FORMATS, ".points", SimpleNamespace(read=names["read"], write=names["write"]))
    return names


def test_the_format_keeps_what_it_says(points, gaussians, tmp_path):
    points["test_positions_and_colours_come_back"](gaussians, tmp_path)


def test_the_format_refuses_another_file(points, tmp_path):
    points["test_another_file_is_refused"](tmp_path)


def test_the_prior_edits_a_scene():
    names = run("add-a-prior.md", gs_ssd=gs_ssd, gaussians=random_gaussians(60))
    assert names["edit"].step == 5
    names["test_the_edit_turns_red"](names["edit"])


def test_the_scene_loads(tmp_path, monkeypatch):
    save_gaussians(random_gaussians(60), tmp_path / "bust.ply")
    monkeypatch.chdir(tmp_path)
    scene = run("add-a-scene.md")["scene"]
    assert scene.frame.radius == 1.5 and scene.background == (0.0, 0.0, 0.0)
    assert 0 < int(scene.editable.sum()) < len(scene)


def test_the_named_scene_composes(tmp_path, monkeypatch):
    from gs_ssd.session import config, shorthands

    (page,) = blocks("add-a-scene.md", "yaml")
    shutil.copytree(CONFIGS, tmp_path / "configs")
    (tmp_path / "configs" / "scene" / "bust.yaml").write_text(page)
    for module in (config, shorthands):
        monkeypatch.setattr(module, "CONFIGS", tmp_path / "configs")
    (tmp_path / "scans").mkdir()
    save_gaussians(random_gaussians(60), tmp_path / "scans" / "bust.ply")
    monkeypatch.chdir(tmp_path)
    cfg = config.compose(["scene=bust", "prompt=gold", "device=cpu"])
    scene = config.scene_of(cfg, torch.Generator())
    assert (scene.name, scene.front_azimuth_degrees) == ("bust", 90.0)
    assert not scene.editable.all() and cfg.prompt.source == "a photo of a bust"


@pytest.mark.parametrize(
    "test", ["test_grey_has_no_colour_and_primaries_have", "test_it_says_which_way_the_edit_went"]
)
def test_the_metric_passes_its_own_tests(test):
    torch.manual_seed(0)
    run("add-a-metric.md")[test]()


@pytest.mark.parametrize("page", ["format", "guidance", "metric", "prior", "scene"])
def test_a_page_names_only_files_that_are_there(page):
    """Besides what its reader is about to write, which has a placeholder or the example's own name."""
    text = (ROOT / "docs" / f"add-a-{page}.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:gs_ssd|configs|tests|data|scripts)/[\w./<>-]+\.(?:py|yaml)", text))
    missing = {name for name in named if "<" not in name and not (ROOT / name).exists()}
    assert not missing


def test_the_columns_of_the_example_are_written_as_experiments_write_them():
    (page,) = blocks("add-a-metric.md", "yaml")
    known = yaml.safe_load((CONFIGS / "evaluate" / "evaluate.yaml").read_text(encoding="utf-8"))
    assert yaml.safe_load(page).keys() <= known.keys()
