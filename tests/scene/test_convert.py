"""The converter's front door."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gs_ssd.cli.convert import main
from gs_ssd.results.splats import RECORD
from gs_ssd.scene import load_gaussians, save_gaussians
from tests.synthetic import random_gaussians

SCRIPT = Path(__file__).parents[2] / "scripts" / "convert.py"


@pytest.mark.slow
def test_converts(tmp_path):
    save_gaussians(random_gaussians(sh_degree=1), tmp_path / "in.ply")
    command = [sys.executable, SCRIPT, tmp_path / "in.ply", tmp_path / "out.splat"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "warning: .splat holds no view-dependent colour: SH degree 1 becomes 0\n"
    assert len(load_gaussians(tmp_path / "out.splat")) == 200


def test_bad_input_is_one_line_and_exit_code_2(tmp_path, capsys):
    assert main([str(tmp_path / "missing.ply"), str(tmp_path / "out.splat")]) == 2
    assert capsys.readouterr() == ("", f"error: {tmp_path / 'missing.ply'}: no such file\n")


def test_the_source_is_never_overwritten(tmp_path):
    save_gaussians(random_gaussians(), tmp_path / "in.ply")
    before = (tmp_path / "in.ply").read_bytes()
    (tmp_path / "link.ply").symlink_to("in.ply")
    for destination in ("in.ply", "link.ply"):
        assert main([str(tmp_path / "in.ply"), str(tmp_path / destination)]) == 2
    assert (tmp_path / "in.ply").read_bytes() == before


def test_the_front_door_is_the_script(tmp_path, capsys):
    save_gaussians(random_gaussians(sh_degree=0), tmp_path / "in.ply")
    assert main([str(tmp_path / "in.ply"), str(tmp_path / "out.spz")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out.spz'}: 200 Gaussians\n"
    assert main([str(tmp_path / "in.ply"), str(tmp_path / "out.obj")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_spz_of_other_axes_is_turned(tmp_path, capsys):
    """SuperSplat's files have those of a .ply; other files have nothing to turn."""
    scene, supersplats, ours = (tmp_path / name for name in ("in.ply", "theirs.spz", "ours.spz"))
    save_gaussians(random_gaussians(50, sh_degree=1), scene)
    means = load_gaussians(scene).means
    assert main(["--spz-axes", "rdf", str(scene), str(supersplats)]) == 0
    assert main([str(scene), str(ours)]) == 0
    turned = means * torch.tensor([1.0, -1, -1])
    torch.testing.assert_close(load_gaussians(supersplats).means, turned, atol=1e-5, rtol=0)
    torch.testing.assert_close(load_gaussians(ours).means, means, atol=1e-5, rtol=0)
    assert main(["--spz-axes", "rdf", str(supersplats), str(tmp_path / "back.ply")]) == 0
    torch.testing.assert_close(load_gaussians(tmp_path / "back.ply").means, means, atol=1e-5, rtol=0)
    capsys.readouterr()
    for destination in ("out.splat", "out.html"):
        assert main(["--spz-axes", "rdf", str(scene), str(tmp_path / destination)]) == 2
        assert capsys.readouterr().err.startswith("error: --spz-axes is about a .spz")


def test_a_scene_becomes_a_page(tmp_path, capsys):
    """One file without addresses that holds every Gaussian; the viewer's pixels are tests/results/test_report.py's."""
    save_gaussians(random_gaussians(sh_degree=1), tmp_path / "my <ball>.ply")
    page = tmp_path / "ball.html"
    assert main([str(tmp_path / "my <ball>.ply"), str(page)]) == 0
    said = capsys.readouterr().out
    assert said == f"{page}: 200 Gaussians, to be opened in a browser; without view-dependent colours\n"
    text = page.read_text()
    packed = text.partition('id="scene">')[2].partition("<")[0]
    assert len(base64.b64decode(packed)) == 200 * RECORD.itemsize
    assert "my &lt;ball&gt;" in text and "http" not in text.replace(packed, "")
    assert main([str(tmp_path / "missing.ply"), str(page)]) == 2
    assert page.read_text() == text


def test_a_runs_edit_becomes_a_page_as_the_run_saw_it(tmp_path):
    save_gaussians(random_gaussians(sh_degree=0), tmp_path / "edited.ply")
    scene = {"name": "ball", "up": [0, -1, 0], "center": [0, 0, 0], "radius": 1.0, "background": [0, 0.25, 1]}
    scene |= {"views": {"front_azimuth_degrees": 90.0}, "view_words": None, "cameras": None}
    run = {"scene": scene, "prompts": {"source": "a ball", "target": "a cube"}, "config": {}}
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert main([str(tmp_path / "edited.ply"), str(tmp_path / "cube.html")]) == 0
    text = (tmp_path / "cube.html").read_text()
    view = json.loads(re.search(r"\{[^{}]*\"fov\"[^{}]*\}", text)[0])
    assert view["background"] == [0, 0.25, 1] and view["up"] == pytest.approx([0, -1, 0], abs=1e-6)
    assert re.search("<title>(.*)</title>", text)[1] == "ball+a-cube"
