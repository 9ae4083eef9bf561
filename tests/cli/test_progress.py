"""What a run says of how far it is: on a terminal, and in a log."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gs_ssd.cli.edit import announce
from gs_ssd.cli.progress import follow
from gs_ssd.cli.signals import Signals
from gs_ssd.edit.loop import StepReport
from gs_ssd.render import compilation
from gs_ssd.scene import save_gaussians
from tests.session import small
from tests.synthetic import random_gaussians

ROOT = Path(__file__).parents[2]


def log(capsys, *, done: int, total: int) -> list[str]:
    """The lines that a run of `total` steps leaves in a log, the first `done` of which were done before."""
    steps = (StepReport(step=step, t=500, loss=1.0) for step in range(done, total))
    follow(steps, done=done, total=total, name="ssd", signals=Signals())
    said = capsys.readouterr().err
    assert "\r" not in said
    return said.splitlines()


@pytest.mark.parametrize(
    "done, total, percents",
    [
        (0, 250, [0, *range(10, 101, 10)]),
        (0, 1500, [0, *range(10, 101, 10)]),
        (120, 250, [40, *range(50, 101, 10)]),
        (0, 3, [30, 60, 100]),
        (0, 1, [100]),
    ],
)
def test_a_log_gets_a_line_every_tenth_of_the_way(capsys, done, total, percents):
    lines = log(capsys, done=done, total=total)
    assert [int(line.split()[1]) for line in lines] == percents
    assert lines[-1].startswith(f"ssd: 100 % ({total} of {total} steps), 0 s left")


def test_kernels_are_compiled_before_the_first_step_and_it_is_said(capsys, monkeypatch):
    """Within it they made an ETA of hours."""
    with monkeypatch.context() as cache:
        cache.setattr(compilation, "_cached", lambda kernel: [])
        cache.setattr(compilation, "_is_single", lambda signature: False)
        announce(small.edit())
    announce(small.edit())
    assert capsys.readouterr().err == "compiling the CPU kernels, once: about a minute\n"


COMPILE = "from gs_ssd.render import compile_kernels; compile_kernels()"


@pytest.mark.slow
def test_what_is_compiled_at_the_start_is_all_that_a_run_needs(tmp_path):
    """A first step that compiled more would still be slow, and its time be taken for every step's."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def python(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stderr

    python("-c", COMPILE)
    compiled = {path.name for path in (tmp_path / "cache").rglob("*.nbc")}
    save_gaussians(random_gaussians(300, sh_degree=3), tmp_path / "ball.ply")
    settings = [
        "diffusion=tiny",
        "device=cpu",
        "resolution=64",
        "render.frames=4",
        "render.size=64",
        "metrics.views=2",
    ]
    settings += ["prompt.source=a", "prompt.target=b", "steps=3", "densify.start=1", "densify.every=1"]
    said = python("train.py", f"scene={tmp_path / 'ball.ply'}", *settings, f"output_dir={tmp_path / 'out'}")
    assert "compiling" not in said and said.startswith("ssd: ")
    assert {path.name for path in (tmp_path / "cache").rglob("*.nbc")} == compiled
