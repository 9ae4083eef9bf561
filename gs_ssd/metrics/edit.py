"""The numbers of an edit: every run measures itself on random views, paired before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gs_ssd.metrics.clip import Clip, clip_metrics, compat_metrics
from gs_ssd.metrics.image import psnr, ssim
from gs_ssd.metrics.lpips import Lpips

OUTSIDE = 0.01  # a pixel is background where the editable Gaussians cover less than this
PURE = 0.95  # a pixel shows a part where the part's Gaussians make up at least this share of it
BRIGHT = 0.98  # a channel above this is burnt out
CLIP_METRICS = (
    "retrieval_top1",
    "clip_similarity",
    "clip_similarity_before",
    "clip_source_similarity",
    "clip_direction",
    "clip_direction_consistency",
)


def edit_metrics(
    *,
    before: Tensor,
    after: Tensor,
    editable_alpha: Tensor | None,
    clip: Clip | None,
    source: str,
    target: str,
    candidates: Sequence[str],
    kept: Mapping[str, Tensor] | None = None,
    compat: tuple[Tensor, Tensor] | None = None,
    lpips: Lpips | None = None,
) -> dict[str, Any]:
    """Metrics of paired renders [V, H, W, 3]; null where there is nothing to measure.

        source_psnr      of all pixels, after against before, dB
        background_psnr  of the pixels that the editable Gaussians don't cover, dB; at most 100
        background_ssim, background_lpips  of the views with zeros where they do, as PIE-Bench measures its background
        unedited_psnr    of the parts that the prompt doesn't name, dB; at most 100: the worst part's
        bright_spots     share of the pixels with a channel above 0.98 that had none in the source
        pixel_change     mean absolute change of a channel

    Args:
        editable_alpha: [V, H, W] coverage by the Gaussians the edit may touch, in the source; None: all of them may.
        clip: the judge of the CLIP metrics; None leaves those out.
        candidates: the prompts retrieval chooses among, besides target and source.
        kept: share [V, H, W] of each pixel that a part, by name, makes up in the source.
        compat: pictures before and after [V, H, W, 3] for the CLIP metrics with the published script's habits.
        lpips: None leaves it out.
    """
    metrics: dict[str, Any] = dict.fromkeys(CLIP_METRICS)
    prompts = {"source": source, "target": target}
    if clip is not None:
        metrics |= clip_metrics(clip, before=before, after=after, candidates=candidates, **prompts)
        if compat is not None:
            metrics |= compat_metrics(clip, before=compat[0], after=compat[1], **prompts)
    metrics |= dict.fromkeys(("background_psnr", "background_ssim", "background_lpips", "unedited_psnr"))
    if editable_alpha is not None and bool((editable_alpha < OUTSIDE).any()):
        outside = editable_alpha < OUTSIDE
        metrics["background_psnr"] = min(psnr(after, before, outside), 100.0)
        pair = after * outside[..., None], before * outside[..., None]
        metrics["background_ssim"] = ssim(*pair)
        metrics["background_lpips"] = lpips(*pair) if lpips is not None else None
    seen = {name: share > PURE for name, share in (kept or {}).items() if bool((share > PURE).any())}
    if seen:
        parts = {name: min(psnr(after, before, pixels), 100.0) for name, pixels in seen.items()}
        metrics |= {"unedited_psnr": min(parts.values()), "unedited_psnr_by_part": parts}
    bright = (after > BRIGHT).any(dim=-1) & ~(before > BRIGHT).any(dim=-1)
    metrics["bright_spots"] = bright.float().mean().item()
    metrics["source_psnr"] = min(psnr(after, before), 100.0)
    metrics["pixel_change"] = torch.nn.functional.l1_loss(after, before).item()
    return metrics
