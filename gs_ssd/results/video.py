"""Videos that play everywhere (H.264, yuv420p, the index at the front) and animated GIFs; whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import IO

import imageio_ffmpeg
import numpy as np
from torch import Tensor

from gs_ssd.checks import number
from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path

_H264 = ("-an", "-vcodec", "libx264", "-pix_fmt", "yuv420p", "-movflags", "+faststart")
_CODECS = {
    ".mp4": (*_H264, "-crf", "10"),
    # One palette for the whole video; without it ffmpeg uses a fixed one, which bands.
    ".gif": ("-vf", "split[a][b];[a]palettegen[p];[b][p]paletteuse"),
}


def to_uint8(image: Tensor) -> np.ndarray:
    """[..., H, W, 3] in [0, 1] → uint8."""
    return (image.detach().clamp(0, 1) * 255 + 0.5).byte().cpu().numpy()


def check_fps(value: object, name: str = "fps") -> float:
    """`value` as frames per second; raises UserError for what no player can show."""
    return number(name, value, least=0.1, most=240)


def write_video(frames: Iterable[np.ndarray], path: str | os.PathLike, *, fps: float = 30) -> None:
    """Write uint8 frames [H, W, 3] as an .mp4 or .gif; see `video_writer`."""
    with video_writer(path, fps=fps) as video:
        for frame in frames:
            video.add(frame)


@contextmanager
def video_writer(path: str | os.PathLike, *, fps: float = 30) -> Iterator[Encoder]:
    """A video that takes its frames one at a time; it appears at `path` when the block ends and every frame is in it.

    Raises UserError for frames with odd sides or of changing size, no frames at all, and whatever stops ffmpeg, with
    the last line of what it said. Then there is no file, or the older one.
    """
    path = Path(path)
    fps = check_fps(fps)
    if path.suffix.lower() not in _CODECS:
        raise UserError(f"{path}: a video ends in {' or '.join(_CODECS)}")
    with atomic_path(path) as temporary, tempfile.TemporaryFile() as log:
        encoder = Encoder(temporary, path, fps, log)
        try:
            yield encoder
            encoder.finish()
        finally:
            encoder.kill()


class Encoder:
    """One ffmpeg process that reads raw frames; made by `video_writer`."""

    def __init__(self, temporary: Path, path: Path, fps: float, log: IO[bytes]) -> None:
        self.temporary, self.path, self.fps, self.log = temporary, path, fps, log
        self.shape: tuple[int, ...] | None = None
        self.count = 0
        self.process: subprocess.Popen | None = None

    def add(self, frame: np.ndarray) -> None:
        """Append a uint8 frame [H, W, 3]."""
        if self.process is None:
            self._start(frame.shape)
        if frame.shape != self.shape:
            raise UserError(
                f"{self.path}: frame {self.count} has shape {frame.shape}, the first one {self.shape}"
            )
        assert self.process is not None and self.process.stdin is not None
        try:
            self.process.stdin.write(np.ascontiguousarray(frame).data)
        except OSError:  # a broken pipe: ffmpeg has ended, and its last words say why
            self._fail()
        self.count += 1

    def finish(self) -> None:
        """Wait for ffmpeg, then see that it ended well and that all frames are there."""
        if self.process is None:
            raise UserError(f"{self.path}: a video needs at least one frame")
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
        except OSError:
            self._fail()
        if self.process.wait() != 0:
            self._fail()
        try:
            written, _ = imageio_ffmpeg.count_frames_and_secs(str(self.temporary))
        except RuntimeError:
            written = 0
        if written != self.count:
            self._fail(f"only {written} of {self.count} frames were written")

    def kill(self) -> None:
        """End the process if it still runs, as it does after an error in the frames."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdin is not None
        with suppress(OSError):  # what was still to be written has no reader any more
            self.process.stdin.close()

    def _start(self, shape: tuple[int, ...]) -> None:
        height, width = shape[:2]
        if height % 2 or width % 2 or min(height, width) < 2:
            raise UserError(
                f"{self.path}: a video's sides must be even, here they are {width}x{height} pixels"
            )
        rate = str(Fraction(self.fps).limit_denominator(1001))
        self.shape = shape
        command = [ffmpeg(), "-y", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-r", rate]
        command += ["-s", f"{width}x{height}", "-i", "-", *_CODECS[self.path.suffix.lower()]]
        self.process = subprocess.Popen(
            [*command, str(self.temporary)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self.log,
            # Ctrl-C in a terminal reaches every process of its group; the video is to be finished all the same.
            **({"creationflags": 0x200} if sys.platform == "win32" else {"start_new_session": True}),  # type: ignore[arg-type]
        )

    def _fail(self, reason: str | None = None) -> None:
        assert self.process is not None
        self.kill()
        self.log.seek(0)
        said = self.log.read().decode(errors="replace").strip().splitlines()
        reason = said[-1].strip() if said else reason or f"exit code {self.process.returncode}"
        raise UserError(f"can't write {self.path}: ffmpeg: {reason}; is there space on the disk?")


def ffmpeg() -> str:
    """The path of the ffmpeg program."""
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise UserError(
            "videos need ffmpeg, and there is none; pip install --force-reinstall imageio-ffmpeg, "
            "or set IMAGEIO_FFMPEG_EXE"
        ) from error


def smaller_copy(path: Path, target: Path, *, side: int, crf: int = 26) -> None:
    """Write the .mp4 at `path` again to `target`, at most `side` pixels high and more strongly compressed."""
    command = [ffmpeg(), "-y", "-v", "error", "-i", str(path), "-vf", f"scale=-2:'min({side},ih)'", *_H264]
    with atomic_path(target) as temporary:
        done = subprocess.run([*command, "-crf", str(crf), str(temporary)], capture_output=True)
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
            raise UserError(f"can't write {target}: ffmpeg: {said[-1].strip()}")
