"""Which words a camera adds to the prompt."""

import pytest
import torch

from gs_ssd.diffusion.gaussian_prior import GaussianPrior
from gs_ssd.edit.view_prompts import ViewPrompts, side_of
from gs_ssd.scene import SceneFrame, orbit
from gs_ssd.scene.frame import AXES, axis_vector
from gs_ssd.scene.views import azimuths

PROMPTS = ["a head", "a head, front view", "a head, from behind", "", "ugly"]


@pytest.mark.parametrize(
    ("azimuth", "side"),
    [(0, "front"), (-24, "front"), (26, None), (90, "side"), (-90, "side"), (120, None), (136, "back"),
     (180, "back"), (-180, "back"), (270, "side"), (365, "front")],
)  # fmt: skip
def test_side_of(azimuth, side):
    assert side_of(azimuth) == side


@pytest.mark.parametrize("up", AXES)
def test_azimuths_are_those_the_cameras_were_placed_at(up):
    frame = SceneFrame(torch.tensor([1.0, 2.0, 3.0]), axis_vector(up), 1.0)
    cameras = orbit(frame, 8, width=8, height=8, elevation_degrees=20)
    found = azimuths(frame, cameras.positions)
    difference = (found - 45.0 * torch.arange(8) + 180) % 360 - 180
    torch.testing.assert_close(difference, torch.zeros(8), atol=1e-3, rtol=0)


def test_each_camera_gets_its_words():
    prior = GaussianPrior({prompt: torch.zeros(3, 2, 2) for prompt in PROMPTS})
    frame = SceneFrame(torch.zeros(3), axis_vector("-y"), 1.0)
    prompts = ViewPrompts(
        prior,
        target="a head",
        source="",
        negative="ugly",
        words={"front": ", front view", "back": ", from behind"},
        frame=frame,
        front_azimuth_degrees=180.0,
    )
    cameras = orbit(frame, 4, width=8, height=8, front_azimuth_degrees=180.0)  # front, side, back, side
    text = prompts(cameras)
    heard = [PROMPTS[int(index)] for index in text["target"].hidden.flatten()]
    assert heard == ["a head, front view", "a head", "a head, from behind", "a head"]
    assert PROMPTS[int(text["negative"].hidden)] == "ugly" and text["null"].hidden.shape == (1, 1, 1)
