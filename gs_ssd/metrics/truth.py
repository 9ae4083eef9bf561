"""How far an edit has walked from the source to a known truth, in pictures of the three from the same cameras.

    way = 1 − |edit − truth| / |source − truth|        (L1, over the pixels that the edit may touch)

0 is no edit, 1 is the truth, 0.5 half way; below 0 the edit is further from the truth than the source was.
"""

from __future__ import annotations

import torch
from torch import Tensor

COVERED = 0.9  # a pixel counts where what may be edited covers at least this much of it
DIFFERENT = 0.05  # of a subtle edit only where a channel of truth and source differ by more than this


def way(
    *, source: Tensor, edit: Tensor, truth: Tensor, coverage: Tensor, subtle: bool = False
) -> float | None:
    """The share of the way; None where no pixel counts, or where source and truth are equal.

    Args:
        source, edit: pictures [V, H, W, 3] in [0, 1].
        truth: likewise; or [D, V, H, W, 3], draws of which the one nearest to the edit counts.
        coverage: share [V, H, W] of each pixel that comes from what may be edited, in the source.
        subtle: look only where truth and source differ.
    """
    if source.shape != edit.shape or truth.shape[-4:] != source.shape or coverage.shape != source.shape[:-1]:
        raise ValueError(
            f"source {list(source.shape)}, edit {list(edit.shape)}, truth {list(truth.shape)} and coverage "
            f"{list(coverage.shape)} are not of the same views"
        )
    covered = coverage > COVERED
    found = []
    for draw in truth.reshape(-1, *source.shape):
        inside = covered & ((draw - source).abs().amax(-1) > DIFFERENT) if subtle else covered
        if not bool(inside.any()):
            continue
        left, whole = ((image - draw)[inside].abs().mean(dtype=torch.float64) for image in (edit, source))
        if whole > 0:
            found.append((left.item(), 1 - (left / whole).item()))
    return min(found)[1] if found else None
