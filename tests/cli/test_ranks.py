"""Several processes that share the views of one edit, as torchrun starts them."""

import os
import signal
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

from gs_ssd.errors import UserError
from gs_ssd.ranks import ALONE, Ranks, joined
from gs_ssd.scene import load_gaussians, save_gaussians
from tests.processes import processes
from tests.synthetic import random_gaussians
from tests.waiting import PATIENCE, until

ROOT = Path(__file__).parents[2]
FAST = [
    "diffusion=tiny", "device=cpu", "resolution=64", "render.frames=4", "render.size=64", "metrics.views=4",
    "no_edit_guard=false", "prompt.source=a photo", "prompt.target=a drawing",
]  # fmt: skip
WHOLE = ["steps=30", "views_per_step=2", "densify.start=6", "densify.every=6", "checkpoint.every=1"]


def start(tmp_path: Path, *settings: str, ranks: int = 1) -> subprocess.Popen:
    scene = tmp_path / "ball.ply"
    if not scene.exists():
        save_gaussians(random_gaussians(300), scene)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={ranks}", f"--master-port={port}"]
    own = [] if any(word.startswith("resume=") for word in settings) else [f"scene={scene}", *FAST]
    command = [sys.executable, *(launcher if ranks > 1 else []), str(ROOT / "train.py"), *own, *settings]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, text=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )


def said(process: subprocess.Popen) -> str:
    out, errors = process.communicate(timeout=PATIENCE)
    return out + errors


def check_equal(one: Path, other: Path, within: float = 1e-5) -> None:
    one, other = load_gaussians(one / "edited.ply"), load_gaussians(other / "edited.ply")
    assert len(one) == len(other) > 300  # densification made some
    for name, value in one.tensors().items():
        torch.testing.assert_close(other.tensors()[name], value, rtol=0, atol=within, msg=name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process makes of `WHOLE` by a method, without a break."""

    @cache
    def made(method: str = "ssd") -> Path:
        folder = tmp_path_factory.mktemp("alone")
        process = start(folder, *WHOLE, f"guidance={method}", f"output_dir={folder / 'out'}")
        text = said(process)
        assert process.returncode == 0, text
        return folder / "out"

    return made


@pytest.mark.slow
@pytest.mark.parametrize("method, within", [("ssd", 1e-5), ("vsd", 1e-3)])  # its own AdamW enlarges rounding
def test_two_ranks_of_one_view_are_one_of_two_views(method, within, alone, tmp_path):
    both = start(tmp_path, *WHOLE, f"guidance={method}", f"output_dir={tmp_path / 'out'}", ranks=2)
    text = said(both)
    assert both.returncode == 0, text
    assert text.count("edited ") == 1  # one of them speaks
    check_equal(alone(method), tmp_path / "out", within)


@pytest.mark.slow
def test_ranks_ask_for_a_part_of_the_views_each_and_fill_the_same_places(tmp_path):
    names = ("means", "scales", "quats", "opacities", "sh0", "shN")
    still = [f"optimizer.rates.{name}=0" for name in names]  # what was filled in, not what became of it
    own = ["steps=2", "views_per_step=2", "hull.views=5", "hull.misses=1", "hull.least=0", *still]
    folders = [tmp_path / str(ranks) for ranks in (1, 2)]
    for ranks, folder in enumerate(folders, start=1):
        process = start(tmp_path, *own, f"output_dir={folder}", ranks=ranks)
        text = said(process)
        assert process.returncode == 0, text
    check_equal(*folders)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, -1])  # the one that writes, the one that doesn't
def test_a_killed_rank_ends_all_in_a_line_and_its_run_is_resumed(victim, alone, tmp_path):
    out = tmp_path / "out"
    process = start(tmp_path, *WHOLE, f"output_dir={out}", ranks=2)
    until(lambda: list(out.glob("checkpoint*")) or process.poll() is not None)
    assert process.poll() is None, said(process)
    children = [each.number for each in processes() if each.parent == process.pid]
    os.kill(children[victim], signal.SIGKILL)
    text = said(process)
    assert process.returncode != 0
    own = [line for line in text.splitlines() if line.startswith(("stopped:", "error:"))]
    assert len(own) == 1 and "resume=" in own[0], text
    assert not (out / "edited.ply").exists()
    resumed = start(tmp_path, f"resume={out}", ranks=2)
    text = said(resumed)
    assert resumed.returncode == 0 and text.count("edited ") == 1, text
    check_equal(alone(), out)


@pytest.mark.slow
@pytest.mark.parametrize("before, after", [(2, 1), (1, 2)])
def test_another_number_of_ranks_resumes_a_run(before, after, alone, tmp_path):
    """What was stopped by a signal comes to what a run without a break comes to."""
    out = tmp_path / "out"
    process = start(tmp_path, *WHOLE, f"output_dir={out}", ranks=before)
    while "(3 of 30 steps)" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert "edited   30 of" not in (text := said(process)) and list(out.glob("checkpoint*")), text
    resumed = start(tmp_path, f"resume={out}", ranks=after)
    assert "resumed  at step" in (text := said(resumed)) and resumed.returncode == 0, text
    check_equal(alone(), out)


@pytest.mark.slow
def test_what_ranks_cannot_share_is_said_in_a_line(tmp_path):
    process = start(tmp_path, "steps=3", "views_per_step=3", f"output_dir={tmp_path / 'out'}", ranks=2)
    lines = [line for line in said(process).splitlines() if line.startswith("error:")]
    assert lines == ["error: views_per_step=3 can't be shared out among 2 ranks; use views_per_step=4"]
    assert not (tmp_path / "out").exists()


def test_a_world_that_nobody_started_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UserError, match="torchrun"), joined():
        pass


def test_ranks_share_out_views_and_noise():
    z = torch.zeros(2, 4, 3, 3)
    whole = ALONE.noise_like(torch.zeros(4, 4, 3, 3), torch.Generator().manual_seed(0))
    parts = [Ranks(rank, 2).noise_like(z, torch.Generator().manual_seed(0)) for rank in (0, 1)]
    assert torch.equal(torch.cat(parts), whole)
    assert [Ranks(rank, 2).part(4) for rank in (0, 1)] == [slice(0, 2), slice(2, 4)]
