"""The converter's front door."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gs_ssd.cli.convert import main
from gs_ssd.scene import load_gaussians, save_gaussians
from tests.synthetic import random_gaussians

SCRIPT = Path(__file__).parents[2] / "scripts" / "convert.py"


def convert(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_converts(tmp_path):
    save_gaussians(random_gaussians(sh_degree=1), tmp_path / "in.ply")
    done = convert(tmp_path / "in.ply", tmp_path / "out.splat")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "warning: .splat holds no view-dependent colour: SH degree 1 becomes 0\n"
    assert len(load_gaussians(tmp_path / "out.splat")) == 200


@pytest.mark.slow
def test_bad_input_is_one_line_and_exit_code_2(tmp_path):
    done = convert(tmp_path / "missing.ply", tmp_path / "out.splat")
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path / 'missing.ply'}: no such file\n"
    assert done.stdout == ""


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
