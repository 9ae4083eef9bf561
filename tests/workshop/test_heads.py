"""The generator of captioned heads, and the scenes made with it."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from plyfile import PlyData

from scripts.workshop.heads.attributes import AXES, COSTUMES, Head, counterfactual, sample_head, wear
from scripts.workshop.heads.captions import caption, view_words
from scripts.workshop.heads.dataset import sample_group
from scripts.workshop.heads.figure import build
from scripts.workshop.heads.geometry import load_template
from scripts.workshop.heads.render import Light, orbit, shade, splat
from scripts.workshop.heads.vocabulary import LENGTH, PIECES, build_tokenizer, words
from scripts.workshop.make_face_scene import HEAD_CENTRE, HEAD_RADIUS, WALL_COLOUR, quaternions

SCENES = Path(__file__).resolve().parents[2] / "data" / "scenes"
DETAIL = 0.25


def render(head: Head, yaw: float = 0.0, size: int = 48) -> np.ndarray:
    figure = build(head, DETAIL)
    light = Light(np.array([0.4, 0.5, 0.77]), key=0.5, ambient=0.56)
    colour = shade(figure.albedo, figure.normal, figure.gloss, light)
    return splat(
        orbit(yaw, 0, size),
        figure.position,
        figure.normal,
        figure.sigma,
        colour,
        np.full((size, size, 3), 0.7),
    )


@pytest.fixture(scope="module")
def plain() -> np.ndarray:
    return render(Head())


@pytest.mark.parametrize("costume", COSTUMES)
def test_every_costume_shows_from_every_side(costume):
    for yaw in (0, 90, 180):
        dressed, bare = render(wear(Head(), costume), yaw), render(Head(), yaw)
        assert np.isfinite(dressed).all() and dressed.min() >= 0 and dressed.max() <= 1.001
        assert np.abs(dressed - bare).mean() > 0.02


@pytest.mark.parametrize(
    "change", [{"beard": "mustache"}, {"beard": "beard"}, {"eyewear": "sunglasses"}, {"hat": "red"}, {"hair": "red"},
               {"old": True}, {"smile": True}, {"style": "long"}, {"style": "bald"}, {"garment": "jacket"}]
)  # fmt: skip
def test_attributes_change_the_picture(plain, change):
    assert np.abs(render(replace(Head(), **change)) - plain).max() > 0.1


def test_same_head_same_picture(plain):
    np.testing.assert_array_equal(render(Head()), plain)


def test_head_is_upright_and_centred(plain):
    """The bust fills the lower edge of the frame and leaves the upper corners free."""
    figure = np.abs(plain - 0.7).max(-1) > 0.05
    assert figure[-1].mean() > 0.6 and not figure[:2].any()
    centre = np.nonzero(figure)[1].mean()
    assert centre == pytest.approx(23.5, abs=1.0)


def test_pose_of_no_weights_is_the_reference():
    template = load_template(DETAIL)
    position, normal = template.pose({})
    np.testing.assert_allclose(position, template.canonical, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(normal, axis=1), 1, atol=1e-5)


def test_nearer_discs_hide_farther_ones():
    place = np.array([[0.0, -0.35, 0.0], [0.0, -0.35, -1.0]])
    facing, sigma = np.tile([0.0, 0.0, 1.0], (2, 1)), np.array([2.0, 2.0])
    image = splat(orbit(0, 0, 9), place, facing, sigma, np.eye(3)[:2], np.zeros((9, 9, 3)), opacity=0.75)
    np.testing.assert_allclose(image[4, 4], [0.75, 0.25 * 0.75, 0], atol=0.01)
    turned = splat(orbit(180, 0, 9), place, facing, sigma, np.eye(3)[:2], np.zeros((9, 9, 3)))
    assert turned.max() == 0  # discs are one-sided


def test_captions_stay_in_the_vocabulary():
    rng, known = np.random.default_rng(0), set(words())
    for _ in range(400):
        head = sample_head(rng)
        text = caption(head, rng, yaw=rng.uniform(-180, 180))
        assert text == text.lower()
        assert set(re.findall(PIECES, text)) <= known


def test_every_word_is_one_token_and_captions_fit():
    tokenizer, rng = build_tokenizer(), np.random.default_rng(1)
    assert [w for w in words() if len(tokenizer(w).input_ids) != 3] == []
    texts = [caption(sample_head(rng), rng, 0.0) for _ in range(300)]
    assert max(len(ids) for ids in tokenizer(texts).input_ids) <= LENGTH
    assert tokenizer("a zebra").input_ids != tokenizer("a cobra").input_ids


def test_counterfactuals_differ_in_one_thing():
    rng = np.random.default_rng(2)
    for _ in range(200):
        a, b, axis = counterfactual(sample_head(rng), rng)
        assert a != b, axis
        if axis in ("mustache", "beard"):
            assert replace(b, beard="") == a
        if axis in ("hair", "style"):
            assert a.hat == b.hat == "" and replace(b, hair=a.hair, style=a.style) == a


def test_captions_of_a_pair_name_the_difference():
    rng = np.random.default_rng(3)
    for _ in range(12):
        for first, second in sample_group(rng, size=16, views=1):
            if first.axis not in ("", "costume", "smile"):
                assert first.captions[0] != second.captions[0]


def test_every_axis_of_the_counterfactuals_comes_up():
    rng = np.random.default_rng(4)
    assert {counterfactual(sample_head(rng), rng)[2] for _ in range(600)} == set(AXES)


def test_most_pictures_show_the_studio_of_the_scenes():
    """The upper corners of a picture show the wall alone, which is the same for every head from the same height."""
    rng = np.random.default_rng(5)
    corners = [sample_group(rng, size=16, views=1)[0][0].image[0, 0].astype(float) for _ in range(24)]
    wall = np.array(WALL_COLOUR) * 255
    assert np.mean([np.abs(c - wall).max() < 45 and c[2] > c[0] for c in corners]) > 0.6


def test_captions_say_where_the_camera_stands():
    rng = np.random.default_rng(6)
    said = [caption(sample_head(rng), rng, yaw=180.0) for _ in range(300)]
    assert 0.4 < np.mean(["from behind" in text for text in said]) < 0.6


def test_view_words():
    names = ["front view", "", "side view", "from behind", "from behind"]
    assert [view_words(yaw) for yaw in (0, 45, 90, 180, -170)] == names


@pytest.mark.parametrize("name", ["face", "elder", "woman"])
def test_scene_files_are_standard(name):
    ply = PlyData.read(SCENES / f"{name}.ply")
    assert not ply.text and ply.byte_order == "<" and not ply.comments
    vertex = ply["vertex"]
    expected = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"]
    expected += ["scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    assert [p.name for p in vertex.properties] == expected
    assert {p.val_dtype for p in vertex.properties} == {"f4"}
    table = np.stack([vertex[n] for n in expected], 1)
    assert 20_000 <= len(table) <= 45_000 and np.isfinite(table).all()
    np.testing.assert_allclose(np.linalg.norm(table[:, -4:], axis=1), 1, atol=1e-5)
    distance = np.linalg.norm(table[:, :3] - HEAD_CENTRE, axis=1)
    assert 0.5 < (distance < HEAD_RADIUS).mean() < 0.9
    outside_head_and_wall = table[(distance > HEAD_RADIUS) & (distance < 10)]
    assert outside_head_and_wall[:, 1].min() > 1.0  # y is down: only neck, hair ends and shoulders


def test_quaternions_turn_z_into_the_normal():
    normal = np.array([[0, 0, 1.0], [0, 0, -1.0], [0.6, 0, 0.8], [0, -0.8, -0.6]])
    w, x, y, z = quaternions(normal).T
    turned = np.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], 1)
    np.testing.assert_allclose(turned, normal, atol=1e-6)
