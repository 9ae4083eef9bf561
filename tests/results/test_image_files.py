"""Reading any picture a user may have."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from gs_ssd.errors import UserError
from gs_ssd.results.image_files import load_image, save_image


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)


def test_png_is_exact_and_saves_back(pixels, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    rgb = load_image(tmp_path / "a.png", factor=8)
    assert_close(rgb, torch.from_numpy(pixels).float()[None] / 255)
    save_image(rgb[0], tmp_path / "b.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "b.png")), pixels)


def test_jpeg(tmp_path):
    Image.new("RGB", (24, 16), (200, 100, 50)).save(tmp_path / "a.jpg")
    rgb = load_image(tmp_path / "a.jpg")
    assert rgb.shape == (1, 16, 24, 3)
    assert_close(rgb[0, 0, 0], torch.tensor([200, 100, 50]) / 255, atol=0.02, rtol=0)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_lies_on_white(mode, tmp_path):
    image = Image.new(mode, (8, 8), (0,) * len(mode))
    image.putpixel((0, 0), (0,) * (len(mode) - 1) + (255,))
    image.save(tmp_path / "a.png")
    rgb = load_image(tmp_path / "a.png")
    assert rgb[0, 0, 0].tolist() == [0, 0, 0]
    assert rgb[0, 1, 1].tolist() == [1, 1, 1]


def test_a_palette_with_transparency_lies_on_white(tmp_path):
    image = Image.new("P", (8, 8), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.save(tmp_path / "a.png", transparency=0)
    assert load_image(tmp_path / "a.png")[0, 0, 0].tolist() == [1, 1, 1]


def test_phone_pictures_stand_upright(tmp_path):
    image = Image.new("RGB", (24, 16), "blue")
    image.paste("red", (0, 0, 12, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90° clockwise to show
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    rgb = load_image(tmp_path / "a.jpg")
    assert rgb.shape == (1, 24, 16, 3)
    assert rgb[0, 2, 8].argmax() == 0 and rgb[0, -2, 8].argmax() == 2  # red above blue


def test_grey_and_sixteen_bits_become_rgb(tmp_path):
    Image.fromarray(np.full((8, 8), 51, np.uint8)).save(tmp_path / "grey.png")
    Image.fromarray(np.full((8, 8), 51 * 257, np.uint16)).save(tmp_path / "deep.png")
    for name in ("grey.png", "deep.png"):
        assert_close(load_image(tmp_path / name), torch.full((1, 8, 8, 3), 0.2))


@pytest.mark.parametrize(
    "size, fitted", [((21, 30), (24, 32)), ((101, 100), (104, 96)), ((3, 3), (8, 8)), ((35, 8), (32, 8))]
)
def test_other_sizes_are_resized_with_a_warning(size, fitted, tmp_path):
    Image.new("RGB", size, "red").save(tmp_path / "a.png")
    with pytest.warns(UserWarning, match=f"from {size[0]}x{size[1]} to {fitted[0]}x{fitted[1]}"):
        rgb = load_image(tmp_path / "a.png", factor=8)
    assert rgb.shape == (1, fitted[1], fitted[0], 3)
    assert_close(rgb[0, 0, 0], torch.tensor([1.0, 0, 0]))


def test_a_size_that_was_asked_for_does_not_warn(tmp_path):
    Image.new("RGB", (300, 200)).save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_image(tmp_path / "a.png", factor=8, size=64).shape == (1, 64, 96, 3)


@pytest.mark.parametrize("content", [b"", b"not an image", b"GIF89a", "cut"])
def test_what_is_no_image(content, tmp_path, pixels):
    path = tmp_path / "a.png"
    if content == "cut":
        Image.fromarray(pixels).save(path)
        content = path.read_bytes()[:300]
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.png is no image that can be read; give a PNG or JPEG"):
        load_image(path)


@pytest.mark.parametrize("name", ["nowhere.png", "."])
def test_a_missing_file(name, tmp_path):
    with pytest.raises(UserError, match="no such image"):
        load_image(tmp_path / name)
