"""Blending: exact at both ends, continuous and monotone between, untouched where nothing was edited."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from gs_ssd.errors import UserError
from gs_ssd.files import sha256
from gs_ssd.render import render
from gs_ssd.results.blend import blend, blend_run
from gs_ssd.scene import Gaussians, find_frame, load_gaussians, save_gaussians
from gs_ssd.scene.views import turntable
from tests.synthetic import random_gaussians

UNTOUCHED = 40  # of 200; the next 20 are removed, and the last 30 of the edit are new


@pytest.fixture(scope="module")
def pair() -> tuple[Gaussians, Gaussians, torch.Tensor]:
    """A scene, an edit of it that also grew and pruned, and what each of its Gaussians came from."""
    before, other = random_gaussians(200), random_gaussians(200, seed=1)
    origin = torch.cat([torch.arange(UNTOUCHED), torch.arange(60, 200), torch.arange(100, 130)])
    moved = before[origin].clone()
    share = torch.zeros(len(origin))
    share[UNTOUCHED:] = 0.3
    for name, value in moved.tensors().items():
        weight = share.reshape(-1, *[1] * (value.dim() - 1))
        value += weight * (other[origin].tensors()[name] - value)
    moved.means[-30:] += 0.1
    return before, moved, origin


def test_both_ends_are_exact(pair):
    before, after, origin = pair
    for strength, expected in ((0, before), (1, after), (1.0, after)):
        blended = blend(before, after, origin, strength)
        for name, value in expected.tensors().items():
            assert torch.equal(blended.tensors()[name], value)


@pytest.mark.parametrize("strength", [0.01, 0.5, 0.99, 1.25, 1.5])
def test_what_was_not_edited_is_untouched_at_every_strength(pair, strength):
    before, after, origin = pair
    blended = blend(before, after, origin, strength)
    for name, value in before.tensors().items():
        assert torch.equal(blended.tensors()[name][:UNTOUCHED], value[:UNTOUCHED])


def test_survivors_go_straight_new_ones_fade_in_and_removed_ones_out(pair):
    before, after, origin = pair
    blended = blend(before, after, origin, 0.25)
    assert len(blended) == len(after) + 20
    survivors, new, gone = slice(UNTOUCHED, 180), slice(180, 210), slice(210, 230)
    ancestors = before[origin[survivors]]
    for name in ("means", "scales", "opacities", "sh0", "shN"):
        a, b = ancestors.tensors()[name], after[survivors].tensors()[name]
        assert_close(blended.tensors()[name][survivors], 0.75 * a + 0.25 * b)
    assert_close(blended.opacities[new].sigmoid(), 0.25 * after.opacities[new].sigmoid())
    assert_close(blended.means[new], 0.75 * before.means[origin[new]] + 0.25 * after.means[new])
    assert_close(blended.opacities[gone].sigmoid(), 0.75 * before.opacities[40:60].sigmoid())
    assert torch.equal(blended.means[gone], before.means[40:60])


def test_beyond_the_edit_survivors_go_on_and_new_ones_stay(pair):
    before, after, origin = pair
    blended = blend(before, after, origin, 1.5)
    assert len(blended) == len(after)
    assert_close(
        blended.means[UNTOUCHED:180],
        1.5 * after.means[UNTOUCHED:180] - 0.5 * before.means[origin[UNTOUCHED:180]],
    )
    for name, value in after.tensors().items():
        assert torch.equal(blended.tensors()[name][180:], value[180:])
    colours = torch.cat([before.sh0, after.sh0, torch.tensor([[[1.7725, 1.7725, 1.7725]]])])
    assert blended.sh0.max() <= colours.max() + 1e-4


def rotation(degrees: float) -> torch.Tensor:
    half = torch.deg2rad(torch.tensor(degrees)) / 2
    return torch.tensor([half.cos(), 0.0, 0.0, half.sin()])


@pytest.mark.parametrize("sign, size", [(1, 1), (-1, 1), (1, 7), (-1, 0.2)])
@pytest.mark.parametrize("strength, angle", [(0.25, 20.0), (0.5, 40.0), (1.5, 120.0)])
def test_rotations_take_the_shorter_way(sign, size, strength, angle):
    before = random_gaussians(1)
    before.quats[0] = 3 * rotation(0)
    after = replace(before, quats=sign * size * rotation(80.0)[None])
    quats = blend(before, after, torch.zeros(1, dtype=torch.int64), strength).quats[0]
    assert_close(quats.abs(), rotation(angle).abs(), atol=1e-5, rtol=0)
    assert_close(quats.norm(), torch.tensor(1.0))


def test_pictures_change_steadily_from_the_source_to_the_edit(pair):
    before, after, origin = pair
    cameras = turntable(find_frame(before), 3, size=64)
    strengths = [0, 0.02, 0.2, 0.4, 0.6, 0.8, 0.98, 1]
    views = [render(blend(before, after, origin, s), cameras).rgb for s in strengths]
    from_source = [float((view - views[0]).abs().mean()) for view in views]
    to_edit = [float((view - views[-1]).abs().mean()) for view in views]
    assert from_source == sorted(from_source) and to_edit == sorted(to_edit, reverse=True)
    assert from_source[1] < 0.05 * from_source[-1] and to_edit[-2] < 0.05 * to_edit[0]  # no jump at the ends


@pytest.mark.parametrize("strength", [-0.1, 1.6, float("nan"), "x", None, True])
def test_other_strengths_are_refused(pair, strength):
    with pytest.raises(UserError, match=r"strength=.* must be a number from 0 to 1\.5"):
        blend(*pair, strength)


def test_what_belongs_to_another_run_is_refused(pair):
    before, after, origin = pair
    for wrong in (origin[:-1], origin.float(), origin[None]):
        with pytest.raises(UserError, match="belongs to another edit"):
            blend(before, after, wrong, 0.5)
    for wrong in (origin + 100, origin - 1):
        with pytest.raises(UserError, match="belongs to another scene"):
            blend(before, after, wrong, 0.5)
    with pytest.raises(UserError, match="degree 0"):
        blend(replace(before, shN=before.shN[:, :0]), after, origin, 0.5)


@pytest.fixture
def run(pair, tmp_path) -> Path:
    """A run's folder, and its source beside it."""
    before, after, origin = pair
    folder = tmp_path / "run"
    folder.mkdir()
    save_gaussians(before, tmp_path / "source.ply")
    save_gaussians(after, folder / "edited.ply")
    np.save(folder / "origin.npy", origin.numpy())
    source = tmp_path / "source.ply"
    manifest = {"input": {"path": str(source), "sha256": sha256(source)}}
    (folder / "run.json").write_text(json.dumps(manifest))
    return folder


def test_a_run_blends_to_a_file(run):
    path = blend_run(run, 0.6)
    assert path == run / "blend_0.6.ply"
    assert len(load_gaussians(path)) == 230
    assert blend_run(run, 0).read_bytes() == (run.parent / "source.ply").read_bytes()
    assert blend_run(run, 1).read_bytes() == (run / "edited.ply").read_bytes()
    with pytest.warns(UserWarning, match="no view-dependent colour"):
        assert len(load_gaussians(blend_run(run, 0, output=run / "none.splat"))) == 200


def test_a_run_never_overwrites_its_own_files(run):
    for output in (run / "edited.ply", run / "run.json", run.parent / "source.ply"):
        kept = output.read_bytes()
        with pytest.raises(UserError, match="would overwrite"):
            blend_run(run, 0.5, output=output)
        assert output.read_bytes() == kept


def test_a_folder_that_is_no_run_is_one_line(run, tmp_path):
    source = tmp_path / "source.ply"
    with pytest.raises(UserError, match="holds no finished edit"):
        blend_run(tmp_path, 0.5)
    source.rename(tmp_path / "moved.ply")
    with pytest.raises(UserError, match=r"source .*source\.ply is not there; say where"):
        blend_run(run, 0.5)
    assert blend_run(run, 0.5, source=tmp_path / "moved.ply").is_file()
    save_gaussians(random_gaussians(5), source)
    with pytest.raises(UserError, match="is not the file that the run edited"):
        blend_run(run, 0.5)
    (tmp_path / "moved.ply").rename(source)
    (run / "origin.npy").write_bytes(b"no array")
    with pytest.raises(UserError, match="is damaged"):
        blend_run(run, 0.5)
    (run / "origin.npy").unlink()
    with pytest.raises(UserError, match=r"has no origin\.npy"):
        blend_run(run, 0.5)
    (run / "run.json").write_text(json.dumps({"input": {"path": None, "sha256": None}}))
    with pytest.raises(UserError, match="made from nothing"):
        blend_run(run, 0.5)
