"""Selections without a picture: regions, files, floods and combinations; and what every selection must keep."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

from gs_ssd.edit.densify import Densifier
from gs_ssd.edit.trainable import TrainableScene
from gs_ssd.errors import UserError
from gs_ssd.scene import load_gaussians, save_gaussians
from gs_ssd.scene.masks import (
    Box,
    Difference,
    Everything,
    File,
    Flood,
    Grow,
    HalfSpace,
    Intersection,
    Invert,
    Parts,
    Pictures,
    Prior,
    Shrink,
    Sphere,
    Text,
    Union,
)
from tests.synthetic import random_gaussians

SCENE = random_gaussians(300)
BALL = Sphere([0, 0, 0], 0.5)
RIGHT = HalfSpace([0, 0, 0], [1, 0, 0])


def test_regions_by_their_definition():
    means = SCENE.means
    assert torch.equal(BALL(SCENE), means.norm(dim=1) <= 0.5)
    assert torch.equal(RIGHT(SCENE), means[:, 0] >= 0)
    inside = (means[:, 1].abs() <= 0.2) & (means[:, 2] >= 0) & (means.abs() <= 1).all(1)
    assert torch.equal(Box([-1, -0.2, 0], [1, 0.2, 1])(SCENE), inside)
    assert Everything()(SCENE).all()


def test_a_turned_box_is_the_box_of_the_scene_turned_back():
    box = Box([-0.9, -0.3, -0.5], [0.7, 0.4, 0.2], rotation_degrees=[0, 0, 90])
    middle = torch.tensor([-0.1, 0.05, -0.15])
    local = SCENE.means - middle
    turned_back = torch.stack([local[:, 1], -local[:, 0], local[:, 2]], dim=1)  # by -90 degrees about z
    half = torch.tensor([0.8, 0.35, 0.35])
    assert torch.equal(box(SCENE), (turned_back.abs() <= half).all(1))
    full_turn = Box(box.low, box.high, rotation_degrees=[360, 0, 0])
    assert torch.equal(full_turn(SCENE), Box(box.low, box.high)(SCENE))


def test_order_of_a_boxs_turns():
    """About x first, then z: the x axis stays through the first turn and ends on y."""
    long = Box([-2, -0.1, -0.1], [2, 0.1, 0.1], rotation_degrees=[90, 0, 90])
    along_y = Box([-0.1, -2, -0.1], [0.1, 2, 0.1])
    assert torch.equal(long(SCENE), along_y(SCENE))


def test_combinations_are_boolean_algebra():
    ball, right = BALL(SCENE), RIGHT(SCENE)
    assert torch.equal(Union([BALL, RIGHT])(SCENE), ball | right)
    assert torch.equal(Intersection([BALL, RIGHT])(SCENE), ball & right)
    assert torch.equal(Difference([BALL, RIGHT])(SCENE), ball & ~right)
    assert torch.equal(Difference([BALL])(SCENE), ball)
    assert torch.equal(Invert(BALL)(SCENE), ~ball)
    de_morgan = Invert(Union([Invert(BALL), Invert(RIGHT)]))
    assert torch.equal(de_morgan(SCENE), ball & right)
    nowhere = Sphere([9, 9, 9], 1)
    assert torch.equal(Union([BALL, nowhere])(SCENE), ball)  # an empty part of a whole is no error


@pytest.mark.parametrize("distance", [0.0, 0.1, 0.3])
def test_grow_and_shrink_by_brute_force(distance):
    ball = BALL(SCENE)
    distances = torch.cdist(SCENE.means.double(), SCENE.means.double())
    assert torch.equal(Grow(BALL, distance)(SCENE), (distances[:, ball] <= distance).any(1))
    assert torch.equal(Shrink(BALL, distance)(SCENE), ball & ~(distances[:, ~ball] <= distance).any(1))
    once = Grow(BALL, distance)
    assert (Shrink(once, distance)(SCENE) <= once(SCENE)).all()


def blobs() -> tuple:
    """Two red lumps and a green one between them, 0.05 apart within a lump."""
    x = torch.cat([torch.arange(20) * 0.05, 1 + torch.arange(20) * 0.05, 2 + torch.arange(20) * 0.05])
    scene = random_gaussians(60, sh_degree=0)
    scene.means = torch.stack([x, torch.zeros(60), torch.zeros(60)], dim=1)
    red, green = torch.tensor([1.5, -1.5, -1.5]), torch.tensor([-1.5, 1.5, -1.5])
    scene.sh0 = torch.where((x >= 1)[:, None] & (x < 1.99)[:, None], green, red)[:, None]
    return scene, [slice(0, 20), slice(20, 40), slice(40, 60)]


def test_a_flood_stops_at_colours_and_gaps():
    scene, (first, second, third) = blobs()
    for start, lump in ((3, first), (25, second), (59, third)):
        want = torch.zeros(60, dtype=torch.bool)
        want[lump] = True
        assert torch.equal(Flood(index=start, distance=0.051)(scene), want)
        assert torch.equal(Flood(point=scene.means[start] + 0.001, distance=0.051)(scene), want)
        assert torch.equal(Flood(index=start)(scene), want)  # at the scene's own spacing
    assert not Flood(index=3, distance=0.051)(scene)[third].any()
    assert Flood(index=3, distance=1.1)(scene)[third].all()  # over the green one, whose colour is another
    with pytest.warns(UserWarning, match="holds all 60 Gaussians, so nothing is protected"):
        assert Flood(index=3, distance=1.1, colour=2)(scene).all()


@pytest.mark.parametrize("kind", ["bool", "index", "uint8", "float", "column"])
@pytest.mark.parametrize("suffix", [".npy", ".pt"])
def test_files_of_booleans_and_indices(tmp_path, kind, suffix):
    want = BALL(SCENE)
    values = {
        "bool": want,
        "index": want.nonzero()[:, 0],
        "uint8": want.to(torch.uint8),
        "float": want.float(),
        "column": want[:, None],
    }[kind]
    path = tmp_path / f"mask{suffix}"
    if suffix == ".npy":
        np.save(path, values.numpy())
    else:
        torch.save(values, path)
    assert torch.equal(File(path)(SCENE), want)


@pytest.mark.parametrize("suffix", [".ply", ".splat", ".pt"])
def test_a_cropped_scene_selects_its_gaussians(tmp_path, suffix):
    scene = random_gaussians(300, sh_degree=0)
    save_gaussians(scene[BALL(scene)], tmp_path / "crop.ply")
    assert torch.equal(File(tmp_path / "crop.ply")(scene), BALL(scene))
    save_gaussians(scene[BALL(scene)], tmp_path / "crop.splat")
    assert torch.equal(File(tmp_path / "crop.splat")(scene), BALL(scene))


def write(path, content) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif path.suffix == ".npy":
        np.save(path, content)
    elif path.suffix == ".pt":
        torch.save(content, path)
    else:
        save_gaussians(content, path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.npy", None, "no such file"),
        (
            "other.npy",
            np.ones(299, dtype=bool),
            "yes or no to 299 Gaussians, the scene has 300; it belongs to another",
        ),
        ("other.npy", np.array([5, 300]), "names the Gaussians 5 to 300, the scene has 0 to 299"),
        ("other.npy", np.array([-1, 3]), "names the Gaussians -1 to 3"),
        ("other.npy", np.array([0.5, 2.0]), r"holds float64 \(2,\), expected 300 booleans"),
        ("other.npy", np.zeros((20, 15), dtype=bool), r"holds bool \(20, 15\), expected 300 booleans"),
        ("words.npy", np.array(["a", "b"]), "not|holds"),
        ("empty.npy", np.zeros(0, dtype=int), "holds no Gaussian; is it this scene's"),
        ("none.npy", np.zeros(300, dtype=bool), "holds no Gaussian; is it this scene's"),
        ("junk.npy", b"junk", "not an .npy of indices or booleans"),
        ("junk.pt", b"junk", "not a tensor of indices or booleans"),
        ("dict.pt", {"mask": torch.ones(300)}, "not a tensor of indices or booleans"),
        ("bomb.pt", torch.zeros(1).expand(1 << 40), "not a tensor of indices or booleans"),
        ("moved.ply", random_gaussians(50, seed=5), "100 % of its Gaussians aren't in the scene"),
        ("mask.txt", b"1 2 3", "unknown scene format"),
    ],
)
def test_files_of_another_scene(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        write(path, content)
    with pytest.raises(UserError, match=message) as caught:
        File(path)(SCENE)
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_a_pt_never_runs_code(tmp_path, monkeypatch):
    class Payload:
        def __reduce__(self):
            import os

            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save(Payload(), tmp_path / "mask.pt")
    with pytest.raises(UserError, match="not a tensor"):
        File(tmp_path / "mask.pt")(SCENE)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "mask", [Sphere([9, 9, 9], 1), Box([5, 5, 5], [6, 6, 6]), Invert(Everything())], ids=str
)
def test_an_empty_selection_is_one_line(mask):
    with pytest.raises(UserError, match=r"^the mask .* holds no Gaussian; ") as caught:
        mask(SCENE)
    assert "\n" not in str(caught.value)


def test_a_selection_of_everything_is_said():
    with pytest.warns(
        UserWarning, match=r"sphere \(center=\[0.0, 0.0, 0.0\], radius=99.0\) holds all 300 Gaussians"
    ):
        Sphere([0, 0, 0], 99)(SCENE)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sphere([0, 0], 1), r"mask.center=\[0, 0\] must be a list of 3 numbers"),
        (lambda: Sphere([0, 0, 0], "big"), "mask.radius=big must be a number above 0"),
        (lambda: Sphere([0, 0, 0], -1), "mask.radius=-1 must be a number above 0"),
        (lambda: Box([0, 0, 0], [1, 1, -1]), "must lie below mask.high"),
        (lambda: Box([0, 0, 0], [1, 1, 1], 45), "mask.rotation_degrees=45 must be a list of 3 numbers"),
        (lambda: HalfSpace([0, 0, 0], [0, 0, 0]), "mask.normal=.* points nowhere"),
        (lambda: Flood(), "needs one of mask.index"),
        (lambda: Flood(index=1, point=[0, 0, 0]), "needs one of mask.index"),
        (lambda: Flood(index=1.5), "mask.index=1.5 must be a whole number"),
        (lambda: Flood(index=0, colour="red"), "mask.colour=red must be a number from 0 to 2"),
        (lambda: Flood(index=300)(SCENE), "mask.index=300 is none of the scene's 300 Gaussians"),
        (lambda: Grow(BALL, -1), "mask.distance=-1 must be a number at least 0"),
        (lambda: Union([]), "mask=union needs at least one mask"),
        (lambda: Parts("x.npy", ["nose"]), "no part is called 'nose'; there are: studio, skin"),
        (lambda: Pictures("folder", threshold=0), "mask.threshold=0 must be a number above 0 and at most 1"),
        (lambda: Text(""), "mask.words= must be text"),
        (lambda: Text("hair", level=2), "mask.level=2 must be a number above 0 and below 1"),
        (lambda: Prior(threshold=5), "mask.threshold=5 must be a number above 0 and below 1"),
        (lambda: Prior(ratios=[2]), r"mask.ratios=\[2\] must be a list of 1 numbers from 0 to 1"),
        (lambda: Prior()(SCENE), "mask=prior needs a renderer"),
        (lambda: Pictures("folder")(SCENE), "mask=pictures needs a renderer"),
        (lambda: Text("hair")(SCENE), "mask=text needs a renderer"),
    ],
)
def test_wrong_settings_are_one_line(make, message):
    with pytest.raises(UserError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_masks_keep_their_arguments():
    """A checkpoint describes a mask by the attributes that are named as its constructor's arguments."""
    regions = [BALL, RIGHT, Box([0, 0, 0], [1, 1, 1])]
    looking = [Pictures("a"), Text("hair"), Prior()]
    combined = [Union([BALL]), Invert(BALL), Grow(BALL, 1), Shrink(BALL, 1)]
    for mask in [*regions, *looking, *combined, File("a.npy"), Flood(index=3), Parts("a", ["hair"])]:
        for name in inspect.signature(type(mask).__init__).parameters:
            assert name == "self" or hasattr(mask, name), (mask, name)


@pytest.mark.parametrize("degree", [0, 3])
@pytest.mark.parametrize(
    "mask", [BALL, RIGHT, Shrink(Union([BALL, RIGHT]), 0.05)], ids=["ball", "half", "combined"]
)
def test_what_is_outside_stays_byte_identical(tmp_path, degree, mask):
    """Densification on: the exported file holds the untouched rows, whole and in their order, new ones last."""
    save_gaussians(random_gaussians(400, sh_degree=degree), tmp_path / "in.ply")
    before = load_gaussians(tmp_path / "in.ply")
    editable = mask(before)
    scene = TrainableScene(before, editable=editable, extent=2.0)
    densifier = Densifier(percent=0.5, split_size=0.04, min_opacity=0.4)
    generator = torch.Generator().manual_seed(0)
    for step in range(6):
        for name in scene.optimizers:
            scene.params[name].grad = torch.randn(scene.params[name].shape, generator=generator)
        scene.set_progress(step / 6)
        scene.step()
        if step % 3 == 2:
            n = len(scene.params["means"])
            densifier.gradient_sum, densifier.visible_count = (
                torch.rand(n, generator=generator),
                torch.ones(n),
            )
            assert densifier.densify(scene)[0] > 0
    after = scene.gaussians.clone()
    save_gaussians(after, tmp_path / "out.ply")
    header_in, rows_in = split_rows((tmp_path / "in.ply").read_bytes(), 400)
    header_out, rows_out = split_rows((tmp_path / "out.ply").read_bytes(), len(after))
    assert header_out == header_in.replace(b"vertex 400", f"vertex {len(after)}".encode())
    outside = [row for row, chosen in zip(rows_in, editable) if not chosen]
    kept = [row for row, chosen in zip(rows_out, scene.editable) if not chosen]
    assert kept == outside
    births = scene.params["generation"]
    assert (births.diff() >= 0).all()  # loaded ones first, then each generation behind the last
    new = int((births > 0).sum())
    assert (scene.origin[:-new].diff() > 0).all() and scene.editable[-new:].all()


def split_rows(data: bytes, count: int) -> tuple[bytes, list[bytes]]:
    start = data.index(b"end_header\n") + 11
    size = (len(data) - start) // count
    return data[:start], [data[start + i * size : start + (i + 1) * size] for i in range(count)]
