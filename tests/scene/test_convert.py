"""The converter's front door."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from gs_ssd.scene import load_gaussians, save_gaussians
from tests.synthetic import random_gaussians

SCRIPT = Path(__file__).parents[2] / "scripts" / "convert.py"


def convert(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_converts(tmp_path):
    save_gaussians(random_gaussians(sh_degree=1), tmp_path / "in.ply")
    done = convert(tmp_path / "in.ply", tmp_path / "out.splat")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "warning: .splat holds no view-dependent colour: SH degree 1 becomes 0\n"
    assert len(load_gaussians(tmp_path / "out.splat")) == 200


def test_bad_input_is_one_line_and_exit_code_2(tmp_path):
    done = convert(tmp_path / "missing.ply", tmp_path / "out.splat")
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path / 'missing.ply'}: no such file\n"
    assert done.stdout == ""
