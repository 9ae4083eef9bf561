"""Sweeps by Hydra's launchers, which are packages of their own."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from importlib.util import find_spec

import pytest

from gs_ssd.assets import ROOT
from gs_ssd.cli import edit
from gs_ssd.cli.app import LAUNCHERS, check_launcher
from gs_ssd.cli.signals import Signals
from gs_ssd.errors import UserError
from gs_ssd.scene import save_gaussians
from tests.synthetic import random_gaussians

FAST = [
    "diffusion=tiny", "device=cpu", "resolution=64", "steps=1", "metrics.views=3", "metrics.size=32",
    "render.frames=2", "render.size=32", "render.sheet_views=2", "render.sheet_size=32", "no_edit_guard=false",
    "prompt.source=a photo", "prompt.target=a drawing",
]  # fmt: skip


def installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def test_a_launcher_that_is_not_there_is_one_line(capsys, monkeypatch, tmp_path):
    assert edit.main(["--multirun", "scene=face", "seed=1,2", "hydra/launcher=cloud"]) == 2
    assert (
        capsys.readouterr().err
        == "error: hydra/launcher=cloud is none of basic, joblib, ray, submitit_local, submitit_slurm\n"
    )
    check_launcher(["seed=1,2", "hydra/launcher=basic"])
    monkeypatch.setenv("PATH", str(tmp_path))  # without srun
    for name, (extra, module) in LAUNCHERS.items():
        if not installed(module):
            with pytest.raises(UserError, match=rf"is not installed: pip install 'gs_ssd\[{extra}\]'"):
                check_launcher([f"hydra/launcher={name}"])
        elif name == "submitit_slurm":
            with pytest.raises(UserError, match="there is no Slurm here"):
                check_launcher([f"hydra/launcher={name}"])
        else:
            check_launcher([f"hydra/launcher={name}"])


def test_signals_go_to_another_process_as_new_ones():
    with Signals() as signals:
        signals.requested = True
        other = pickle.loads(pickle.dumps(signals))
    assert isinstance(other, Signals) and not other.requested


@pytest.mark.slow
@pytest.mark.parametrize("name", ["joblib", "submitit_local", "ray"])
def test_a_sweep_runs_on_hydras_launchers(name, tmp_path):
    if not installed(LAUNCHERS[name][1]):
        pytest.skip(f"{LAUNCHERS[name][1]} is not installed")
    save_gaussians(random_gaussians(300, sh_degree=0), tmp_path / "ball.ply")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    settings = ["scene=ball.ply", "seed=1,2", "output_dir=out", f"hydra/launcher={name}"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "--multirun", *FAST, *settings],
        cwd=tmp_path, env=environment, text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0 and "sweep    out/index.html: 2 runs" in done.stdout, (
        done.stdout + done.stderr
    )
    assert all((tmp_path / "out" / str(job) / "edited.ply").exists() for job in (0, 1))
    assert {path.name for path in tmp_path.iterdir()} == {
        "ball.ply",
        "out",
    }  # no launcher leaves anything else
