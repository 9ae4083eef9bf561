"""What a masked edit need not draw: without it every picture and gradient has the same bits."""

from dataclasses import replace

import pytest
import torch

from gs_ssd.edit import frozen as module
from gs_ssd.edit.densify import Densifier
from gs_ssd.edit.frozen import FrozenViews
from gs_ssd.edit.trainable import LearningRates, TrainableScene
from gs_ssd.guidance import SSD
from gs_ssd.render import render
from gs_ssd.scene import Gaussians, find_frame, orbit
from gs_ssd.scene.gaussians import Rows
from gs_ssd.scene.scene import Scene
from gs_ssd.session.edit import SceneEdit
from tests.session import small
from tests.synthetic import random_gaussians

SIZE = 40


def dense(count: int, **kwargs) -> Gaussians:
    """A ball around a core that it hides; many depths are equal, since a third of it stands there twice."""
    ball = random_gaussians(count, **kwargs)
    core = torch.arange(count) < 0.7 * count
    ball.means[core] *= 0.3
    ball.opacities, ball.scales = ball.opacities + 4, ball.scales + 0.8 - 1.0 * core[:, None]
    ball.means[::3] = ball.means[1::3][: len(ball.means[::3])]
    return ball


def looked_at(scene: TrainableScene, cameras, leaves, mode: str):
    """Pictures, and the gradients of the parameters and of their places on the screen."""
    scene.clear_gradients()
    out = render(scene.gaussians, cameras, render_mode="RGB+ED", rasterize_mode=mode, **leaves)
    out.info["means2d"].retain_grad()
    torch.manual_seed(0)
    loss = (out.rgb * torch.randn_like(out.rgb)).sum() + (out.depth * torch.randn_like(out.depth)).sum()
    loss.backward()
    places = leaves["rows"].places
    on_screen = out.info["means2d"].grad[:, places], out.info["radii"][:, places]
    return [out.rgb, out.alpha, out.depth, *on_screen, *(gradient.clone() for gradient in scene.gradients())]


def fade_and_come_nearer(scene: TrainableScene) -> None:
    """What may change goes everywhere: half of it fades away, the rest goes anywhere."""
    with torch.no_grad():
        scene.params["opacities"][::2] = -9
        scene.params["means"] += 0.3 * torch.randn_like(scene.params["means"])
        scene.params["sh0"] += torch.randn_like(scene.params["sh0"])
    scene._put_rows()


@pytest.mark.parametrize("mode", ["classic", "antialiased"])
@pytest.mark.parametrize("share, degree", [(0.01, 0), (0.3, 2)])
def test_what_the_frozen_hide_of_each_other_changes_no_bit(share, degree, mode):
    torch.manual_seed(1)
    gaussians = dense(2000, sh_degree=degree)
    scene = TrainableScene(gaussians, editable=torch.rand(len(gaussians)) < share, extent=2.0)
    cameras = orbit(find_frame(gaussians), 3, width=SIZE, height=SIZE)
    views = FrozenViews(scene, lambda *args, **options: render(*args, rasterize_mode=mode, **options))
    ranks = views(cameras[[0, 2]], torch.tensor([0, 2]))
    assert 0 < len(ranks) < 0.8 * (~scene.editable).sum()
    assert set(views.cache) == {0, 2}
    densifier = Densifier(percent=0.5, min_opacity=1e-3)
    for _ in range(2):
        for got, expected in zip(
            looked_at(scene, cameras[[0, 2]], scene.part(views(cameras[[0, 2]], torch.tensor([0, 2]))), mode),
            looked_at(scene, cameras[[0, 2]], scene.leaves, mode),
            strict=True,
        ):
            assert torch.equal(got, expected)
        fade_and_come_nearer(scene)
        densifier.densify(scene)  # rows come and go; what is known of the frozen holds on
    assert len(scene) != len(gaussians) and ranks.equal(views(cameras[[0, 2]], torch.tensor([0, 2])))
    views.cache.clear()
    assert ranks.equal(views(cameras[[0, 2]], torch.tensor([0, 2])))
    assert ranks.equal(views(cameras[[0, 2]], None))


def test_nothing_behind_a_wall_is_shown_but_behind_what_may_change():
    """A wall hides a ball as long as it is frozen."""
    side = torch.linspace(-2, 2, 40)
    wall = torch.cartesian_prod(side, side, torch.tensor([1.0])).repeat(3, 1)
    ball = random_gaussians(500, sh_degree=0)
    ball.means *= 0.3
    count = len(wall)
    everything = Gaussians(
        means=torch.cat([ball.means, wall]),
        scales=torch.cat([ball.scales, torch.full((count, 3), -2.0)]),
        quats=torch.cat([ball.quats, torch.tensor([[1.0, 0, 0, 0]]).expand(count, 4)]),
        opacities=torch.cat([ball.opacities, torch.full((count,), 9.0)]),
        sh0=torch.cat([ball.sh0, torch.zeros(count, 1, 3)]),
        shN=torch.zeros(len(ball) + count, 0, 3),
    )
    camera = orbit(find_frame(ball), 1, width=SIZE, height=SIZE, elevation_degrees=0, distance=3.0)
    assert camera.positions[0, 2] > 1.5
    is_wall = torch.arange(len(everything)) >= len(ball)
    shown = render(everything, camera, shown=True).info["shown"][0]
    assert not shown[~is_wall].any() and shown[is_wall].any()
    seen = FrozenViews(TrainableScene(everything, editable=torch.arange(len(everything)) < 9), render)
    assert seen(camera, None).min() >= len(ball) - 9
    ball_alone = Gaussians(**{name: value[:501] for name, value in everything.tensors().items()})
    seen = FrozenViews(TrainableScene(ball_alone, editable=torch.arange(501) == 500), render)
    assert len(seen(camera, None)) > 50


@pytest.mark.parametrize("count", [4, None])
def test_an_edit_comes_to_the_same_scene(monkeypatch, count):
    """With densification, two views per step, from a fixed set and new ones in each step."""
    gaussians = dense(1500, sh_degree=1)
    scene = replace(Scene.of(gaussians, views={"count": count}), editable=gaussians.means[:, 0] > 0.5)

    def edited() -> tuple[SceneEdit, Gaussians]:
        edit = SceneEdit(
            scene,
            small.PROMPTS,
            prior=small.prior(),
            guidance=SSD(),
            rates=LearningRates(opacities=0.5),
            densifier=Densifier(every=3, start=3, stop=9, percent=0.2, min_opacity=0.1),
            num_steps=7,
            views_per_step=2,
        )
        assert list(edit)[-1].num_gaussians != len(gaussians)
        return edit, edit.gaussians

    edit, part = edited()
    assert edit.canvas.frozen.helps and len(edit.canvas.frozen.cache) == (count or 0)
    monkeypatch.setattr(FrozenViews, "__call__", lambda *_: None)
    _, whole = edited()
    for name, value in whole.tensors().items():
        assert torch.equal(part.tensors()[name], value), name


def test_views_beyond_the_room_are_drawn_whole(monkeypatch):
    gaussians = dense(2000)
    monkeypatch.setattr(module, "MOST", 2)
    scene = TrainableScene(gaussians, editable=torch.arange(len(gaussians)) < 20)
    cameras = orbit(find_frame(gaussians), 3, width=SIZE, height=SIZE)
    views = FrozenViews(scene, render)
    assert [views(cameras[i], torch.tensor([i])) is None for i in (0, 1, 2, 1)] == [False, False, True, False]
    for editable in (None, torch.arange(len(gaussians)) >= 20):  # nothing, or little, is frozen
        assert FrozenViews(TrainableScene(gaussians, editable=editable), render)(cameras[0], None) is None


def test_views_that_show_most_are_not_looked_at_for_long(gaussians):
    gaussians.opacities[:] = -3
    scene = TrainableScene(gaussians, editable=torch.arange(len(gaussians)) < 20)
    cameras = orbit(find_frame(gaussians), 2, width=SIZE, height=SIZE)
    views = FrozenViews(scene, render)
    assert len(views(cameras[0], torch.tensor([0]))) > 0.5 * len(gaussians)
    assert views(cameras[1], torch.tensor([1])) is None and views(cameras[1], None) is None
    assert views(cameras[0], torch.tensor([0])) is not None


def test_rows_beside_others():
    torch.manual_seed(0)
    for share in (0.0, 0.1, 0.9, 1.0):
        chosen = torch.rand(50) < 0.4
        ranks = (torch.rand(int((~chosen).sum())) < share).nonzero()[:, 0]
        places, rows = Rows.beside(chosen.nonzero()[:, 0], ranks)
        together = chosen.clone()
        together[(~chosen).nonzero()[ranks, 0]] = True
        expected = Rows.of(chosen[together])
        assert places.equal(together.nonzero()[:, 0])
        assert rows.places.equal(expected.places) and rows.index.equal(expected.index)
