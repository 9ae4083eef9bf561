"""`scene=<an earlier run's folder>`: edits in a row, each from what the one before left."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from gs_ssd.cli import edit
from gs_ssd.errors import UserError
from gs_ssd.files import sha256
from gs_ssd.results.earlier import open_run, scene_settings
from gs_ssd.scene import save_gaussians
from gs_ssd.scene.scene import Scene
from gs_ssd.session.config import compose, resolved
from tests.synthetic import random_gaussians

FAST = [
    *("diffusion=tiny", "device=cpu", "resolution=64", "steps=6", "metrics.views=2", "metrics.size=32"),
    *("render.frames=4", "render.size=32", "render.sheet_size=32", "render.sheet_views=2"),
    *("densify.start=2", "densify.every=2", "densify.percent=0.2", "no_edit_guard=false"),
]


def run(*arguments: str) -> dict:
    """The run.json of an edit that ran."""
    assert edit.main([*FAST, *arguments]) == 0
    folder = next(a.partition("=")[2] for a in arguments if a.startswith("output_dir="))
    return json.loads((Path(folder) / "run.json").read_text())


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Path:
    """The folder of an edit of 300 Gaussians, two parts of which may change, that added some."""
    place = tmp_path_factory.mktemp("chain")
    save_gaussians(random_gaussians(300), place / "bust.ply")
    np.save(place / "parts.npy", np.repeat(np.arange(3, dtype=np.uint8), 100))
    run(
        f"scene={place / 'bust.ply'}",
        f"scene.parts={place / 'parts.npy'}",
        "scene.up=[0,-0.8,0.6]",
        "scene.background=[0,0.25,1]",
        "scene.views.front_azimuth_degrees=35",
        "+scene.mask.path=${scene.parts}",
        "scene.mask._target_=gs_ssd.scene.masks.Parts",
        "+scene.mask.names=[skin,hair]",
        "scene.prompt=a photo of a man",
        "prompt=clown",
        f"output_dir={place / 'first'}",
    )
    return place / "first"


@pytest.mark.slow
def test_an_edit_of_an_edit_knows_what_the_first_knew(first, tmp_path):
    earlier = json.loads((first / "run.json").read_text())
    manifest = run(f"scene={first}", "prompt=mustache", f"output_dir={tmp_path / 'second'}")
    assert manifest["scene"]["name"] == "bust+clown"
    same = ("up", "center", "radius", "background", "views", "cameras")
    assert all(manifest["scene"][name] == earlier["scene"][name] for name in same)
    assert manifest["prompts"]["source"] == "a photo of a clown"
    assert manifest["prompts"]["target"] == "a clown with a mustache"
    assert manifest["input"]["sha256"] == earlier["output"]["sha256"] == sha256(first / "edited.ply")
    (link,) = manifest["earlier_edits"]
    assert link["run"] == str(first) and link["prompts"]["target"] == "a photo of a clown"

    third = run(f"scene={tmp_path / 'second'}", "prompt.target=a king", f"output_dir={tmp_path / 'third'}")
    assert (
        third["scene"]["name"] == "bust+clown+mustache"
        and third["prompts"]["source"] == "a clown with a mustache"
    )
    assert [link["run"] for link in third["earlier_edits"]] == [str(first), str(tmp_path / "second")]


@pytest.mark.slow
def test_the_parts_and_what_may_change_follow_the_gaussians(first):
    origin, parts = np.load(first / "origin.npy"), np.load(first / "parts.npy")
    assert len(origin) > 300 and np.array_equal(parts, origin // 100)
    scene = open_run(first)
    assert torch.equal(scene.editable, torch.from_numpy((parts == 1) | (parts == 2)))
    composed = resolved(compose([f"scene={first}", "prompt=clown", "diffusion=tiny", "device=cpu"]))["scene"]
    assert composed["mask"]["names"] == ["skin", "hair"] and composed["mask"]["path"] == str(
        first / "parts.npy"
    )


@pytest.mark.slow
def test_what_is_typed_wins_over_what_the_earlier_run_knew(first):
    typed = [
        f"scene={first}",
        "scene.name=mine",
        "scene.background=[1,1,1]",
        "prompt.target=a king",
        "device=cpu",
    ]
    cfg = compose([*typed, "prompt.source=a bust of a clown", "mask=all"])
    assert cfg.scene.name == "mine" and list(cfg.scene.background) == [1, 1, 1]
    assert cfg.prompt.source == "a bust of a clown" and cfg.scene.radius == scene_settings(first)["radius"]


def test_folders_that_are_no_run_say_what_to_give(tmp_path):
    def said(folder) -> str:
        with pytest.raises(UserError) as caught:
            compose([f"scene={folder}", "prompt=clown"])
        return str(caught.value)

    (tmp_path / "empty").mkdir()
    assert "is a folder without a finished edit" in said(tmp_path / "empty")
    (tmp_path / "empty" / "checkpoint.safetensors").touch()
    assert f"gs-ssd edit resume={tmp_path / 'empty'}" in said(tmp_path / "empty")
    (tmp_path / "clown" / "later").mkdir(parents=True)
    for name in ("edited.ply", "run.json"):
        (tmp_path / "clown" / "later" / name).touch()
    assert f"such as the last: {tmp_path / 'clown' / 'later'}" in said(tmp_path / "clown")
    assert f"give the file alone: {tmp_path / 'clown' / 'later' / 'edited.ply'}" in said(
        tmp_path / "clown" / "later"
    )


def test_a_scenes_settings_load_it_again(tmp_path):
    save_gaussians(random_gaussians(50), tmp_path / "a.ply")
    scene = Scene.load(tmp_path / "a.ply", up=[1, 2, 2], background=(0.1, 0.2, 0.3), views={"count": 5})
    again = Scene.load(tmp_path / "a.ply", **{**scene.settings(), "cameras": None})
    assert again.settings() == scene.settings()
    assert torch.allclose(scene.frame.up, torch.tensor([1 / 3, 2 / 3, 2 / 3]))
    with pytest.raises(UserError, match="points nowhere"):
        Scene.load(tmp_path / "a.ply", up=[0, 0, 0])
