"""What an edit is measured from, and when a number is left out."""

import pytest
import torch

from gs_ssd.errors import UserError
from gs_ssd.scene import find_frame, orbit
from gs_ssd.scene.scene import Scene
from gs_ssd.scene.views import azimuths
from gs_ssd.session.measure import Measures
from tests.synthetic import random_gaussians


def test_results_are_judged_from_the_users_cameras():
    """A forward-facing capture has no back to look at."""
    gaussians = random_gaussians(400)
    cameras = orbit(find_frame(gaussians), 60, width=96, height=80)[:30]
    scene = Scene.of(gaussians, cameras=cameras)
    measures = Measures(views=20, size=48, compat=True)
    views = measures.cameras(scene)
    assert (len(views), views.width, views.height) == (20, 48, 48)
    distances = torch.cdist(views.positions, cameras.positions)
    nearest = distances.argmin(dim=1)
    assert distances.amin(dim=1).max() < 0.01 and (nearest.diff() > 0).all()  # distinct, in their order
    assert nearest.tolist() != list(range(20))
    assert torch.equal(views.viewmats, measures.cameras(scene).viewmats)
    with pytest.raises(UserError, match=r"needs 20 views, here are 12; .* set metrics\.compat=false"):
        measures.cameras(Scene.of(gaussians, cameras=cameras[:12]))


def test_without_cameras_results_are_judged_from_random_views_all_around():
    ranges = {"elevation_degrees": [-10.0, 20.0], "front_azimuth_degrees": 90.0, "count": 96}
    scene = Scene.of(random_gaussians(400), views=ranges)
    views = Measures(views=20, size=48, compat=True).cameras(scene)
    assert (len(views), views.width, views.height) == (20, 48, 48)
    steps = azimuths(scene.frame, views.positions).diff() % 360
    assert 0 < steps.min() < 12 and 24 < steps.max() < 36  # 18 on average, in order around the scene
    again, other = (Measures(views=20, size=48, seed=seed).cameras(scene) for seed in (0, 1))
    assert torch.equal(views.viewmats, again.viewmats) and not torch.equal(views.viewmats, other.viewmats)
    with pytest.raises(UserError, match=r"needs 20 views, here are 12; set metrics\.views=20"):
        Measures(views=12, compat=True).cameras(scene)


def test_retrieval_is_left_out_where_the_target_is_no_candidate():
    """To choose between the source and the target alone is no test."""
    from gs_ssd.assets import DATA
    from tests.session import small

    edit = small.edit(2)
    list(edit)
    for candidates, known in (((), False), (("red", "blue"), True)):
        result = edit.finish(Measures(clip=str(DATA / "judge"), views=2, size=32, candidates=candidates))
        assert (result.metrics["retrieval_top1"] is not None) == known
        assert result.metrics["clip_similarity"] is not None


def test_the_published_script_sees_pictures_at_their_cameras_size():
    """At most 1,920 pixels wide, squashed to the judge's square, not cropped; views of no camera keep their size."""
    gaussians = random_gaussians(400)
    cameras = orbit(find_frame(gaussians), 25, width=2880, height=1600)
    scene, measures = Scene.of(gaussians, cameras=cameras), Measures(views=20, size=48, compat=True)
    native = measures.native_cameras(scene)
    assert (native.width, native.height) == (1920, 1067)
    assert torch.equal(native.viewmats, measures.cameras(scene).viewmats)
    small = cameras.resized(96, 54)
    assert measures.native_cameras(Scene.of(gaussians, cameras=small)).width == 96
    assert measures.native_cameras(Scene.of(gaussians, views={"count": 96})).width == 48


def test_compat_columns_do_not_depend_on_the_size_of_the_other_metrics_views():
    """They did: both were computed from the same square crops."""
    from dataclasses import replace

    from gs_ssd.assets import DATA
    from tests.session import small

    edit = small.edit(2)
    cameras = orbit(edit.scene.frame, 20, width=48, height=32)
    edit.scene = replace(edit.scene, cameras=cameras)
    list(edit)
    columns = []
    for size in (16, 32):
        measures = Measures(clip=str(DATA / "judge"), views=20, size=size, compat=True)
        columns.append(edit.finish(measures).metrics)
    for name in ("clip_similarity_compat", "clip_direction_compat"):
        assert columns[0][name] == columns[1][name]
    assert columns[0]["clip_similarity"] != columns[1]["clip_similarity"]
