"""PIE-Bench's measures of one edit (its own evaluation, Ju et al., ICLR 2024).

    distance                structure distance of the whole pictures
    psnr, lpips, mse, ssim  of the background: both pictures with zeros where the mask lets them change, averaged over
                            the whole frame, zeros included; nothing where the mask covers the frame
    clip_whole              CLIPScore of the edit and its target prompt
    clip_edited             the same with zeros outside the mask; the prompt stays whole

Where the judge in data/judge stands in for a model of the hub, the name says so: judge_structure, judge_distance,
judge_whole, judge_edited. Those are never comparable with published numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from gs_ssd.assets import DATA
from gs_ssd.metrics.clip import Clip
from gs_ssd.metrics.clip_score import clip_score
from gs_ssd.metrics.image import mse, psnr, ssim
from gs_ssd.metrics.judge_distance import judge_distance
from gs_ssd.metrics.lpips import Lpips
from gs_ssd.metrics.structure import structure_distance
from gs_ssd.metrics.vision import Vision

JUDGE = DATA / "judge"


@dataclass(frozen=True)
class Column:
    """A measure as tables print it: its value times `scale`."""

    title: str
    scale: float = 1.0


PUBLISHED_COLUMNS = {
    "distance": Column("Distance ×10³ ↓", 1e3),
    "lpips": Column("LPIPS ×10³ ↓", 1e3),
    "mse": Column("MSE ×10⁴ ↓", 1e4),
    "clip_whole": Column("CLIP whole ↑"),
    "psnr": Column("PSNR ↑"),
    "ssim": Column("SSIM ×10² ↑", 1e2),
    "clip_edited": Column("CLIP edited ↑"),
}
JUDGE_COLUMNS = {
    "judge_structure": Column("judge structure ×10³ ↓", 1e3),
    "judge_distance": Column("judge distance ×10³ ↓", 1e3),
    "judge_whole": Column("judge whole ↑"),
    "judge_edited": Column("judge edited ↑"),
}
COLUMNS = PUBLISHED_COLUMNS | JUDGE_COLUMNS


class PieMetrics:
    """The measures, with the models they need.

    Args:
        clip, structure: folder or hub name of the CLIP model and of the ViT (facebook/dino-vitb8); None: the judge.
        lpips: the distance, or None to leave the column out.
        compat: the published structure distance's habit of feeding 0-255.
    """

    def __init__(
        self,
        *,
        clip: str | None = None,
        structure: str | None = None,
        lpips: Lpips | None = None,
        compat: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.clip = Clip.from_pretrained(clip or str(JUDGE), device=device)
        self.vision = Vision.from_pretrained(structure or str(JUDGE), device=device)
        self.clip_name = "clip" if clip else "judge"
        self.structure_name = "distance" if structure else "judge_structure"
        self.lpips, self.compat = lpips, compat

    def __call__(self, before: Tensor, after: Tensor, mask: Tensor, target: str) -> dict[str, float | None]:
        """Measures, unscaled, of pictures [1, H, W, 3] in [0, 1] with the mask [H, W] bool of what may change."""
        edited = mask[None, ..., None].to(after)
        values: dict[str, float | None] = {
            self.structure_name: structure_distance(self.vision, after, before, compat=self.compat),
            f"{self.clip_name}_whole": clip_score(self.clip, after, target),
            f"{self.clip_name}_edited": clip_score(self.clip, after * edited, target),
        }
        return values | self._background(after * (1 - edited), before * (1 - edited), empty=bool(mask.all()))

    def _background(self, after: Tensor, before: Tensor, *, empty: bool) -> dict[str, float | None]:
        measures: dict[str, Callable[[Tensor, Tensor], float]] = {
            "psnr": lambda x, y: min(psnr(x, y), 100.0),  # equal pictures would make a mean infinite
            "mse": mse,
            "ssim": ssim,
        }
        if self.lpips is not None:
            measures["lpips"] = self.lpips
        if self.structure_name == "judge_structure":
            measures["judge_distance"] = partial(judge_distance, self.vision)
        return {name: None if empty else measure(after, before) for name, measure in measures.items()}
