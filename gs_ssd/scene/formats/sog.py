"""PlayCanvas' .sog, version 2: a zip of lossless WebP pictures, one pixel per Gaussian, and a meta.json.

    means_l, means_u  low and high bytes of 16-bit shares of the bounds of sign(x) log(1 + |x|)
    quats             the three smaller components of wxyz within ±√½; alpha - 252 names the largest
    scales, sh0       indices into codebooks of 256 log scales and coefficients; sh0's alpha is the opacity
    shN_labels        16 bits that name a row of shN_centroids, whose pixels are indices into a codebook

Read here; written by gaussforge (`pip install "gs_ssd[sog]"`), which clusters the harmonics and reorders the Gaussians.
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gs_ssd.errors import UserError
from gs_ssd.scene.formats import ply
from gs_ssd.scene.gaussians import Gaussians

_BYTES = 20  # of a Gaussian's pixels
_LARGEST_RATIO = 100  # of pixels to packed bytes
_LARGEST_PALETTE = 1 << 16
_PER_ROW = 64  # centroids in a row of the picture
_COEFFICIENTS = {1: 3, 2: 8, 3: 15}
_OPAQUE = 1e-6  # an opacity's distance from 0 and 1, where the logit is infinite


def read(path: Path) -> Gaussians:
    """Read a .sog bundle."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _Bundle(archive, path.stat().st_size).gaussians()
    except (ValueError, KeyError, TypeError, IndexError, OSError, zipfile.BadZipFile) as error:
        reason = f"{type(error).__name__}: {error}"[:120]
        raise UserError(f"{path}: damaged or not a .sog of version 2 ({reason}); export it again") from error


def write(gaussians: Gaussians, path: Path) -> None:
    """Write a .sog bundle through gaussforge; its order is another one."""
    try:
        import gaussforge
    except ImportError as error:
        raise UserError(
            'writing .sog needs gaussforge (pip install "gs_ssd[sog]"); or save a .spz, which is as small'
        ) from error
    warnings.warn(".sog holds the Gaussians in another order", stacklevel=3)
    source = path.with_suffix(".ply")
    quats = torch.nn.functional.normalize(gaussians.quats, dim=-1)  # gaussforge takes them as they are
    ply.write(replace(gaussians, quats=quats, extra=None, antialiased=False), source)
    try:
        done = gaussforge.GaussForge().convert(source.read_bytes(), "ply", "sog")
    finally:
        source.unlink()
    if "error" in done:
        raise UserError(f"gaussforge can't write this scene as .sog: {done['error']}")
    path.write_bytes(_tagged(done["data"]) if gaussians.antialiased else done["data"])


def _tagged(data: bytes) -> bytes:
    """The bundle with the tag of antialiased scenes in its meta.json."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    files["meta.json"] = json.dumps(json.loads(files["meta.json"]) | {"model": "antialiased"}).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


class _Bundle:
    """An open archive of `size` bytes; every method raises an ordinary exception where it is damaged."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self.archive, self.size = archive, size
        self.meta = json.loads(self._content("meta.json"))
        self.count = self.meta["count"]
        if self.meta.get("version") != 2:
            raise ValueError(f"version {self.meta.get('version')}")
        if not isinstance(self.count, int) or not 0 < self.count * _BYTES <= _LARGEST_RATIO * size:
            raise ValueError(f"it promises {self.count} Gaussians in {size:,} bytes")

    def gaussians(self) -> Gaussians:
        means, scales, sh0 = self.meta["means"], self.meta["scales"], self.meta["sh0"]
        low, high = (np.array(means[name], dtype=np.float32).reshape(3) for name in ("mins", "maxs"))
        fine, coarse = (self._pixels(name)[:, :3].astype(np.float32) for name in means["files"])
        logs = low + (high - low) * ((256 * coarse + fine) / 65535)
        colours = self._pixels(sh0["files"][0])
        alpha = torch.from_numpy(colours[:, 3].astype(np.float32) / 255).clamp(_OPAQUE, 1 - _OPAQUE)
        sizes = _codebook(scales)[self._pixels(scales["files"][0])[:, :3]]
        return Gaussians(
            means=torch.from_numpy(np.sign(logs) * np.expm1(np.abs(logs))),
            scales=torch.from_numpy(sizes),
            quats=torch.from_numpy(self._quats()),
            opacities=alpha.logit(),
            sh0=torch.from_numpy(_codebook(sh0)[colours[:, :3]])[:, None],
            shN=torch.from_numpy(self._harmonics()),
            antialiased=self.meta.get("model") == "antialiased",
        )

    def _quats(self) -> np.ndarray:
        pixels = self._pixels(self.meta["quats"]["files"][0])
        others = (pixels[:, :3].astype(np.float32) / 255 - 0.5) * np.float32(np.sqrt(2))
        largest = pixels[:, 3].astype(np.int64) - 252
        if largest.min() < 0:
            raise ValueError("a quaternion names no largest component")
        quats = np.empty((self.count, 4), dtype=np.float32)
        columns = np.array([[c for c in range(4) if c != i] for i in range(4)])[largest]
        np.put_along_axis(quats, columns, others, axis=1)
        rest = np.sqrt(np.maximum(1 - np.square(others).sum(axis=1, keepdims=True), 0))
        np.put_along_axis(quats, largest[:, None], rest, axis=1)
        return quats

    def _harmonics(self) -> np.ndarray:
        """[N, K-1, 3]."""
        if not self.meta.get("shN"):
            return np.zeros((self.count, 0, 3), dtype=np.float32)
        described = self.meta["shN"]
        palette, width = int(described["count"]), _COEFFICIENTS[described["bands"]]
        if not 0 < palette <= _LARGEST_PALETTE:
            raise ValueError(f"a palette of {palette}")
        centroids, labels = described["files"]
        rows = -(-palette // _PER_ROW)
        pixels = self._image(centroids, rows * _PER_ROW * width)
        if pixels.shape[1] != _PER_ROW * width:
            raise ValueError(f"a palette of the width {pixels.shape[1]}")
        table = pixels[:rows, :, :3].reshape(-1, width, 3)[:palette]
        index = self._pixels(labels).astype(np.int64)
        return _codebook(described)[table[index[:, 0] + 256 * index[:, 1]]]

    def _pixels(self, name: str) -> np.ndarray:
        """[N, 4] uint8."""
        return self._image(name, self.count).reshape(-1, 4)[: self.count]

    def _image(self, name: str, pixels: int) -> np.ndarray:
        """A picture [H, W, 4] of at least `pixels` pixels and not many more."""
        with Image.open(io.BytesIO(self._content(name)), formats=("WEBP",)) as image:
            if not pixels <= image.width * image.height <= 4 * pixels + _LARGEST_PALETTE:
                raise ValueError(f"{name} has {image.width} x {image.height} pixels for {pixels:,} values")
            return np.asarray(image.convert("RGBA"))

    def _content(self, name: str) -> bytes:
        entry = self.archive.getinfo(name)
        limit = _LARGEST_RATIO * self.size
        if entry.file_size > limit:
            raise ValueError(f"{name} unpacks to {entry.file_size:,} bytes")
        with self.archive.open(entry) as file:
            return file.read(limit)


def _codebook(described: dict) -> np.ndarray:
    return np.array(described["codebook"], dtype=np.float32).reshape(256)
