"""A scene from nothing, through the front door and in the loop."""

import json

import pytest
import torch

from gs_ssd.cli import edit as front_door
from gs_ssd.diffusion.gaussian_prior import GaussianPrior
from gs_ssd.diffusion.timesteps import Uniform
from gs_ssd.edit.loop import distil
from gs_ssd.edit.splats import SplatCanvas
from gs_ssd.edit.trainable import LearningRates, TrainableScene
from gs_ssd.guidance import SDS, encode_prompts
from gs_ssd.render import render
from gs_ssd.scene import Cameras, OrbitViews, find_frame, load_gaussians
from gs_ssd.scene.blob import blob

FAST = [
    "scene=blob",
    "scene.start.count=300",
    "diffusion=tiny",
    "device=cpu",
    "render.frames=2",
    "render.size=32",
    "render.sheet_size=32",
    "render.sheet_views=2",
    "metrics.views=2",
]


def call(monkeypatch, capsys, *overrides: str) -> tuple[int, str, list[str]]:
    """(exit code, stdout, lines of stderr that are no warning)."""
    code = front_door.main([*FAST, *overrides])
    out, err = capsys.readouterr()
    return code, out, [line for line in err.splitlines() if line.startswith("error")]


@pytest.mark.slow
@pytest.mark.parametrize("guidance", ["nfsd", "sds", "vsd"])
def test_a_ball_becomes_a_scene(guidance, monkeypatch, capsys, tmp_path):
    out = tmp_path / "out"
    overrides = [f"guidance={guidance}", "steps=5", "densify.every=2", "densify.start=2", f"output_dir={out}"]
    code, said, errors = call(monkeypatch, capsys, "prompt=clown", *overrides)
    assert (code, errors) == (0, [])
    assert said.startswith("blob (300 Gaussians): a random ball → 'a photo of a clown'")
    manifest = json.loads((out / "run.json").read_text())
    assert manifest["steps_done"] == 5 and manifest["input"] == {
        "path": None,
        "sha256": None,
        "gaussians": 300,
    }
    assert len(load_gaussians(out / "edited.ply")) == manifest["output"]["gaussians"] > 300
    assert {"before_after.png", "turntable.mp4", "loss.png"} <= {path.name for path in out.iterdir()}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("guidance=ssd", "guidance=ssd edits what is there"),
        ("guidance=csd", "guidance=csd edits what is there"),
        ("diffusion=tiny_ip2p", "edits an image, and there is none"),
        ("prompt.target=", "prompt.target is empty"),
        ("scene.start.count=2", "count=2 must be a whole number from 4"),
        ("scene.start.radius=-1", "radius=-1 must be a number above 0"),
        ("scene.start.count=many", "scene.start.count=many must be a whole number"),
    ],
)
def test_what_cannot_be_generated(override, message, monkeypatch, capsys, tmp_path):
    overrides = ["prompt=clown", "guidance=nfsd", "steps=1", f"output_dir={tmp_path / 'out'}", override]
    code, _, errors = call(monkeypatch, capsys, *overrides)
    assert code == 2
    assert len(errors) == 1 and message in errors[0]
    assert not (tmp_path / "out").exists()


def test_the_generation_form_of_csd_may_start_from_nothing(monkeypatch, capsys, tmp_path):
    overrides = ["guidance=csd", "guidance.w_b=0", "steps=1", "no_edit_guard=false", f"output_dir={tmp_path}"]
    assert call(monkeypatch, capsys, "prompt=clown", *overrides)[0] == 0


def test_each_view_hears_its_own_words():
    """Cameras on the left are asked for red, those on the right for blue: the ball takes both."""
    size = 32
    colour = {"red": [1.0, 0, 0], "blue": [0, 0, 1.0], "": [0.5, 0.5, 0.5]}
    pictures = {
        name: torch.tensor(rgb).reshape(3, 1, 1).expand(3, size, size) for name, rgb in colour.items()
    }
    prior = GaussianPrior(pictures, std=0.3)
    generator = torch.Generator().manual_seed(0)
    ball = blob(count=400, opacity=0.9, generator=generator)
    scene = TrainableScene(ball, rates=LearningRates(means=0, scales=0, quats=0, opacities=0, sh0=0.05))

    def text(cameras: Cameras) -> dict:
        side = "red" if cameras.positions[0, 0] < 0 else "blue"
        return encode_prompts(prior, target=side, source="", negative="")

    canvas = SplatCanvas(
        scene,
        source=ball,
        views=OrbitViews(find_frame(ball, up="-y"), size, size),
        renderer=render,
        prior=prior,
        texts=text,
    )
    steps = distil(
        canvas, prior=prior, guidance=SDS(s=1), timesteps=Uniform(), num_steps=60, generator=generator
    )
    list(steps)
    redness = scene.gaussians.rgb[:, 0] - scene.gaussians.rgb[:, 2]
    left, right = ball.means[:, 0] < -0.7, ball.means[:, 0] > 0.7
    assert redness[left].mean() > 0.2 and redness[right].mean() < -0.2
