"""The ball that a generation starts from."""

import math

import pytest
import torch
from torch.testing import assert_close

from gs_ssd.errors import UserError
from gs_ssd.scene.blob import blob, neighbour_distance


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_it_fills_the_ball_evenly():
    ball = blob(count=20_000, radius=2.0, center=[1.0, 2.0, 3.0], generator=seeded())
    distance = (ball.means - torch.tensor([1.0, 2.0, 3.0])).norm(dim=-1)
    assert distance.max() <= 2.0
    inner = (distance < 1.0).float().mean().item()
    assert inner == pytest.approx(1 / 8, abs=0.01)  # half the radius, an eighth of the volume
    assert_close(ball.means.mean(dim=0), torch.tensor([1.0, 2.0, 3.0]), atol=0.05, rtol=0)


def test_it_is_faint_and_nearly_grey():
    ball = blob(count=500, opacity=0.1, colour_spread=0.2, generator=seeded())
    assert_close(ball.opacities.sigmoid(), torch.full((500,), 0.1))
    assert 0.3 <= ball.rgb.min() < 0.32 and 0.68 < ball.rgb.max() <= 0.7


def test_scales_are_the_distance_to_the_neighbours():
    grid = torch.stack(torch.meshgrid(*[torch.arange(5.0)] * 3, indexing="ij"), dim=-1).reshape(-1, 3)
    assert_close(neighbour_distance(0.5 * grid), torch.full((125,), 0.5))
    line = torch.tensor([[0.0, 0, 0], [1, 0, 0], [3, 0, 0], [7, 0, 0]])
    assert neighbour_distance(line)[0].item() == pytest.approx(math.sqrt((1 + 9 + 49) / 3))
    ball = blob(count=1500, generator=seeded())  # more than one chunk of the distance matrix
    assert_close(ball.scales.exp(), neighbour_distance(ball.means)[:, None].expand(-1, 3))


def test_coincident_points_stay_finite():
    assert neighbour_distance(torch.zeros(8, 3)).log().isfinite().all()


def test_a_seed_repeats_it():
    first, again, other = (blob(count=50, generator=seeded(s)) for s in (0, 0, 1))
    assert torch.equal(first.means, again.means) and not torch.equal(first.means, other.means)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"count": 3}, "count=3 must be a whole number from 4"),
        ({"count": 1e3}, "count=1000.0 must be a whole number"),
        ({"radius": 0.0}, "radius=0.0 must be a number above 0"),
        ({"opacity": 1.0}, "opacity=1.0 must be a number above 0 and below 1"),
        ({"center": [0, 0]}, r"center=\[0, 0\] must be a list of 3 numbers"),
    ],
)
def test_bad_values(bad, message):
    with pytest.raises(UserError, match=message):
        blob(**bad, generator=seeded())
