"""The numbers of an edit: every run measures itself on views from all around, paired before and after."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gs_ssd.metrics.clip import Clip, clip_metrics
from gs_ssd.metrics.image import psnr

OUTSIDE = 0.01  # a pixel is background where the editable Gaussians cover less than this


def edit_metrics(
    *,
    before: Tensor,
    after: Tensor,
    editable_alpha: Tensor | None,
    clip: Clip | None,
    source: str,
    target: str,
    candidates: Sequence[str],
) -> dict[str, float | None]:
    """Metrics of paired renders [V, H, W, 3].

    Args:
        editable_alpha: [V, H, W] coverage by the Gaussians the edit may touch, in the source; None: all of them may.
        clip: the judge of the CLIP metrics; None leaves those out (null).
        candidates: the prompts retrieval chooses among, besides target and source.
    """
    metrics: dict[str, float | None] = dict.fromkeys(
        ("retrieval_top1", "clip_similarity", "clip_similarity_before", "clip_direction", "background_psnr")
    )
    if clip is not None:
        metrics |= clip_metrics(
            clip, before=before, after=after, source=source, target=target, candidates=candidates
        )
    if editable_alpha is not None and bool((editable_alpha < OUTSIDE).any()):
        metrics["background_psnr"] = min(psnr(after, before, editable_alpha < OUTSIDE), 100.0)
    metrics["pixel_change"] = torch.nn.functional.l1_loss(after, before).item()
    return metrics
