"""Where an edit will act, asked of the diffusion prior itself: no segmentation model is needed.

DiffEdit (Couairon et al., 2023): where the prior predicts different noise for the target and the source prompt, the
picture must change. D(p) = mean over noises and timesteps of |e(z_t, y) - e(z_t, ŷ)|, here over several cameras and
lifted to the Gaussians as the mean of D over what each of them shows.

Two things are ours. Each view is scaled to its own strongest disagreement, since a head from behind differs less than
a face. And holes are filled: the prior marks the outline of plain hair, and what is surrounded by change changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.ndimage import binary_fill_holes
from torch import Tensor

from gs_ssd.checks import number, vector, whole
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.masks.lifting import shares
from gs_ssd.scene.masks.mask import Mask, MaskContext

_SEEN = 1e-2  # pixels that a Gaussian must make up to be judged


class Prior(Mask):
    """The Gaussians where the prior's predictions for prompt.target and prompt.source disagree most.

    Args:
        threshold: a Gaussian is selected from this share of its views' strongest disagreement on; None: Otsu's, which
            parts the Gaussians into two groups that are each as alike as possible.
        views: how many cameras look.
        noises: noise samples per view and timestep.
        ratios: timesteps, as shares of the schedule.
        seed: of the noise.
    """

    hint = "try another mask.threshold, or mask=text, mask=sphere"

    def __init__(
        self,
        threshold: float | None = None,
        views: int = 8,
        noises: int = 4,
        ratios: Sequence[float] = (0.8, 0.9),
        seed: int = 0,
    ) -> None:
        self.threshold = None if threshold is None else number("mask.threshold", threshold, above=0, below=1)
        self.views, self.noises = whole("mask.views", views, 1, 1000), whole("mask.noises", noises, 1, 1000)
        self.ratios = list(vector("mask.ratios", ratios, len(ratios), least=0, most=1))
        self.seed = whole("mask.seed", seed, 0, 2**63 - 1)

    def find(self, gaussians: Gaussians, context: MaskContext) -> Tensor:
        context.need(self, "renderer", "prior", "source", "target")
        if context.cameras is None:
            context.need(self, "frame")
        assert context.renderer is not None
        if context.target == context.source:  # equal inputs of a batch may differ by rounding
            return torch.zeros(len(gaussians), dtype=torch.bool, device=gaussians.device)
        cameras = context.around(self.views, context.prior.resolution).to(gaussians.device)
        text = context.prior.encode_prompt([context.target, context.source])
        views = [context.renderer(gaussians, cameras[i]).rgb for i in range(len(cameras))]
        maps = self._disagreements(views, context.prior, text)
        if context.prior.may_overflow and not bool(maps.isfinite().all()):
            with context.prior.in_float32():
                maps = self._disagreements(views, context.prior, text)
        pictures = torch.cat([_filled(view) for view in maps.split(1)]).to(gaussians.device)
        values, total = shares(gaussians, cameras, pictures, context.renderer)
        seen = total > _SEEN
        if not bool(seen.any()):
            return seen
        level = _otsu(values[seen], total[seen]) if self.threshold is None else self.threshold
        return (values >= level) & seen

    def _disagreements(self, views: list[Tensor], prior: Any, text: Any) -> Tensor:
        """D [C, H, W] of C pictures [1, H, W, 3]."""
        generator = torch.Generator().manual_seed(self.seed)
        return torch.cat([self._disagreement(rgb, prior, text, generator) for rgb in views])

    def _disagreement(self, rgb: Tensor, prior: Any, text: Any, generator: torch.Generator) -> Tensor:
        """D [1, H, W] of one picture [1, H, W, 3]."""
        z = prior.encode(rgb)
        image = prior.encode_condition(rgb).repeat(2, 1, 1, 1) if prior.takes_image else None
        total = torch.zeros_like(z[:, 0])
        for ratio in self.ratios:
            t = min(round(ratio * len(prior.schedule)), len(prior.schedule) - 1)
            for _ in range(self.noises):
                noise = torch.randn(z.shape, generator=generator).to(z)
                z_t = prior.schedule.add_noise(z, noise, t).repeat(2, 1, 1, 1)
                target, source = prior.predict_noise(z_t, t, text, image)
                total += (target - source).norm(dim=0)
        size = rgb.shape[1:3]
        return torch.nn.functional.interpolate(total[:, None], size=size, mode="bilinear")[:, 0]


def _filled(view: Tensor, levels: int = 64) -> Tensor:
    """D [1, H, W] from 0 to 1, its holes as high as the lowest point of the ridge around them."""
    values = view[0].double().cpu().numpy()
    filled = values.copy()
    for level in np.linspace(values.min(), values.max(), levels + 1)[1:]:
        filled = np.maximum(filled, np.where(binary_fill_holes(values >= level), level, values.min()))
    return torch.from_numpy(filled / max(filled.max(), 1e-12))[None].to(view)


def _otsu(values: Tensor, weights: Tensor, bins: int = 256) -> float:
    """The level between two groups of `values` [N] (of `weights` [N]) with the largest variance between them."""
    low, high = float(values.min()), float(values.max())
    index = ((values - low) / max(high - low, 1e-12) * (bins - 1)).long()
    mass = torch.zeros(bins, dtype=torch.float64).index_add_(0, index.cpu(), weights.double().cpu())
    centers = torch.linspace(low, high, bins, dtype=torch.float64)
    below, moment = mass.cumsum(0), (mass * centers).cumsum(0)
    above = (below[-1] - below).clamp_min(1e-12)
    between = below * above * (moment / below.clamp_min(1e-12) - (moment[-1] - moment) / above).square()
    return float(centers[between.argmax()]) + (high - low) / (2 * (bins - 1))
