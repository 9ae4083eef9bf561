"""Videos that play everywhere: H.264, yuv420p, with the index at the front."""

from __future__ import annotations

import os
from collections.abc import Iterable

import imageio_ffmpeg
import numpy as np
from torch import Tensor

from gs_ssd.files import atomic_path


def to_uint8(image: Tensor) -> np.ndarray:
    """[..., H, W, 3] in [0, 1] → uint8."""
    return (image.detach().clamp(0, 1) * 255 + 0.5).byte().cpu().numpy()


def write_video(frames: Iterable[np.ndarray], path: str | os.PathLike, *, fps: int = 30) -> None:
    """Write uint8 frames [H, W, 3] as an .mp4; odd sides lose their last row or column (yuv420p needs even ones)."""
    with atomic_path(path) as temporary:
        writer = None
        for frame in frames:
            height, width = (side - side % 2 for side in frame.shape[:2])
            if writer is None:
                writer = imageio_ffmpeg.write_frames(
                    str(temporary),
                    (width, height),
                    fps=fps,
                    codec="libx264",
                    pix_fmt_out="yuv420p",
                    macro_block_size=2,
                    quality=8,
                    output_params=["-movflags", "+faststart"],
                )
                writer.send(None)
            writer.send(np.ascontiguousarray(frame[:height, :width]))
        if writer is not None:
            writer.close()
