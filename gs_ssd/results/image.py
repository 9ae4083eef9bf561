"""What an image run leaves behind: the strip of its progress, the decomposition, the manifest's common part."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.diffusion.text import TextCondition
from gs_ssd.edit.image import LatentImage, PixelImage
from gs_ssd.edit.loop import StepReport
from gs_ssd.guidance import Step
from gs_ssd.guidance.decomposition import decompose, picture_of
from gs_ssd.results.pictures import contact_sheet

STRIP_HEIGHT = 192


def _small(picture: Tensor) -> Tensor:
    """[1, H, W, 3] at the height of a strip, on the CPU."""
    height, width = picture.shape[1:3]
    size = (STRIP_HEIGHT, max(round(width * STRIP_HEIGHT / height), 1))
    resized = F.interpolate(
        picture.permute(0, 3, 1, 2), size=size, mode="bilinear", antialias=True, align_corners=False
    )
    return resized.permute(0, 2, 3, 1).clamp(0, 1).cpu()


class Strip:
    """Collects `count` pictures of an image over a run, the first and the last among them."""

    def __init__(self, image: LatentImage | PixelImage, *, num_steps: int, count: int) -> None:
        self.image = image
        last = max(count - 1, 1)
        self.due = {round(i * num_steps / last) for i in range(1, last + 1)}
        self.pictures = [_small(image.picture())]

    def __call__(self, report: StepReport) -> None:
        if report.step + 1 in self.due:
            self.pictures.append(_small(self.image.picture()))

    def save(self, label: str, path: str | os.PathLike) -> None:
        contact_sheet([(label, torch.cat(self.pictures))], path)


def save_decomposition(
    prior: DiffusionPrior,
    z: Tensor,
    *,
    timesteps: Sequence[int],
    text: dict[str, TextCondition],
    generator: torch.Generator,
    path: str | os.PathLike,
) -> None:
    """A row per component of the noise prediction at z, a column per timestep."""
    noise = torch.randn(z.shape, generator=generator).to(z)
    columns = [decompose(prior, Step(z, z, noise, t, prior.schedule, text)) for t in timesteps]
    times = ", ".join(str(t) for t in timesteps)
    rows = [
        (f"{name} at t = {times}", torch.cat([_small(picture_of(prior, z, c[name])) for c in columns]))
        for name in columns[0]
    ]
    contact_sheet(rows, path)
