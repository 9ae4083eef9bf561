"""CLIPScore (Hessel et al., 2021) as PIE-Bench reports it: max(100 cos(I, T), 0)."""

from __future__ import annotations

from torch import Tensor

from gs_ssd.metrics.clip import Clip


def clip_score(clip: Clip, images: Tensor, prompt: str) -> float:
    """Mean over images [B, H, W, 3] in [0, 1]; in [0, 100]."""
    cosines = clip.image_features(images) @ clip.text_features([prompt])[0]
    return (100 * cosines).clamp_min(0).mean().item()
