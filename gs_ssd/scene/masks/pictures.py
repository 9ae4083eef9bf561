"""Mask pictures of some cameras: white may change, black stays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gs_ssd.checks import number, whole
from gs_ssd.errors import UserError
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.masks.lifting import lift
from gs_ssd.scene.masks.mask import Mask, MaskContext
from gs_ssd.scene.source import check_file, kind_of

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_LARGEST_SIDE = 1 << 13  # pixels
_ASPECT = 0.02  # relative difference that rounding a size may leave


class Pictures(Mask):
    """The Gaussians that the pictures in the folder `path` show white.

    Args:
        path: a folder of pictures, in the order of their names, or one picture.
        cameras: which of the scene's cameras each picture belongs to, counted from 0; None: one picture per camera.
        threshold: the share of a Gaussian that must be white.
        votes: how many views must agree.
    """

    hint = "are the pictures white where the scene may change, and in the cameras' order?"

    def __init__(
        self,
        path: str | os.PathLike,
        cameras: Sequence[int] | None = None,
        threshold: float = 0.5,
        votes: int = 1,
    ) -> None:
        self.path = str(path)
        self.cameras = None if cameras is None else [whole("mask.cameras", index, 0) for index in cameras]
        self.threshold = number("mask.threshold", threshold, above=0, most=1)
        self.votes = whole("mask.votes", votes, 1)

    def find(self, gaussians: Gaussians, context: MaskContext) -> Tensor:
        context.need(self, "renderer", "cameras")
        cameras = context.cameras
        assert cameras is not None and context.renderer is not None
        files = self._files()
        indices = list(range(len(cameras))) if self.cameras is None else self.cameras
        if len(files) != len(indices):
            raise UserError(
                f"{self.path}: {len(files)} pictures for {len(indices)} cameras; say which cameras they belong to, "
                "such as mask.cameras=[0,4,9]"
            )
        if max(indices) >= len(cameras):
            raise UserError(f"mask.cameras={self.cameras}: the scene has the cameras 0 to {len(cameras) - 1}")
        if self.votes > len(files):
            raise UserError(f"mask.votes={self.votes} is more than the {len(files)} pictures")
        pictures = [_picture(file) for file in files]
        height, width = pictures[0].shape
        for file, picture in zip(files, pictures):
            if picture.shape != (height, width):
                raise UserError(
                    f"{file}: is {picture.shape[1]} x {picture.shape[0]} pixels, {files[0].name} {width} x {height}; "
                    "give all pictures one size"
                )
        if abs(width * cameras.height - height * cameras.width) > _ASPECT * width * cameras.height:
            raise UserError(
                f"{files[0]}: is {width} x {height} pixels, the cameras take {cameras.width} x {cameras.height}; "
                "give pictures of that shape"
            )
        views = cameras[indices].resized(width, height).to(gaussians.device)
        return lift(
            gaussians,
            views,
            torch.stack(pictures),
            context.renderer,
            threshold=self.threshold,
            votes=self.votes,
        )

    def _files(self) -> list[Path]:
        path = Path(self.path).expanduser()
        if kind_of(path) != "a folder":
            return [check_file(path)]
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES)
        if not files:
            raise UserError(f"{path}: holds no pictures ({', '.join(_SUFFIXES)})")
        return [check_file(file) for file in files]


def _picture(file: Path) -> Tensor:
    """[H, W] in [0, 1]: the brightness; of a picture that is one colour and transparent elsewhere, the alpha."""
    try:
        with Image.open(file) as opened:
            if max(opened.size) > _LARGEST_SIDE:
                raise UserError(
                    f"{file}: is {opened.width} x {opened.height} pixels, at most {_LARGEST_SIDE} a side"
                )
            rgba = np.asarray(opened.convert("RGBA"), dtype=np.float32) / 255
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{file}: not a picture that can be read ({error})") from error
    return torch.from_numpy(rgba[..., :3].mean(axis=2) * rgba[..., 3])
