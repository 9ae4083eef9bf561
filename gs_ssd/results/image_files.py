"""Image files in and out."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path
from gs_ssd.results.video import to_uint8

FORMATS = ("PNG", "JPEG", "WEBP")


def load_image(path: str | os.PathLike, *, factor: int = 1, size: int | None = None) -> Tensor:
    """[1, H, W, 3] in [0, 1], upright, with transparency on white.

    Args:
        factor: the sides are multiples of it; an image of another size is resized to the nearest, with a warning.
        size: length of the shorter side in pixels; None keeps the file's.

    Raises UserError for a missing, unreadable or broken file.
    """
    try:
        path = Path(path).expanduser()
        if not path.is_file():
            raise UserError(f"no such image: {path}")
    except (OSError, RuntimeError) as error:  # a name of over 255 bytes; the home of no such user
        raise UserError(
            f"no such image: {str(path)[:100]}... ({getattr(error, 'strerror', None) or error})"
        ) from error
    try:
        with Image.open(path, formats=FORMATS) as file:
            image = _upright_rgb(file)
    # A broken file raises many types (OSError, SyntaxError, ValueError, decompression bombs), all of them input.
    except Exception as error:
        raise UserError(f"{path} is no image that can be read; give a PNG or JPEG file") from error
    scale = 1 if size is None else size / min(image.size)
    width, height = (max(round(side * scale / factor), 1) * factor for side in image.size)
    if (width, height) != image.size:
        if size is None:
            warnings.warn(
                f"{path.name} is resized from {image.width}x{image.height} to {width}x{height} pixels: "
                f"the model's sides are multiples of {factor}",
                stacklevel=2,
            )
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(image)).float().div(255)[None]


def _upright_rgb(file: Image.Image) -> Image.Image:
    image = ImageOps.exif_transpose(file)
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion clips it to white
        image = Image.fromarray((np.asarray(image, dtype=np.float64) / 257 + 0.5).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def save_image(rgb: Tensor, path: str | os.PathLike) -> None:
    """Write [H, W, 3] in [0, 1]."""
    with atomic_path(path) as temporary:
        Image.fromarray(to_uint8(rgb)).save(temporary)
