"""How far a render is from a picture: the loss of refitting.

    L = w_l1 · mean |x − y| + w_ssim · (1 − SSIM(x, y))

The methods that refit add LPIPS to L1, whose weights must be downloaded; structural similarity, which Gaussian
splatting itself is trained with, stands in for it here.
"""

from __future__ import annotations

from torch import Tensor


def photometric(render: Tensor, picture: Tensor, *, w_l1: float, w_ssim: float) -> Tensor:
    """L, a scalar with its graph, of pictures [B, H, W, 3] in [0, 1]; without SSIM where a side is under 11 pixels."""
    loss = w_l1 * (render - picture).abs().mean()
    if w_ssim and min(render.shape[1:3]) >= 11:
        # Imported here: torchmetrics takes seconds to load, and most edits don't refit.
        from torchmetrics.functional.image import structural_similarity_index_measure

        pair = render.permute(0, 3, 1, 2), picture.permute(0, 3, 1, 2)
        similarity = structural_similarity_index_measure(*pair, data_range=1.0)
        assert isinstance(similarity, Tensor)  # a tuple where the whole map is asked for
        loss = loss + w_ssim * (1 - similarity)
    return loss
