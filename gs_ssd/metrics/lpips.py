"""LPIPS on SqueezeNet (Zhang et al., 2018), as PIE-Bench measures it: torchmetrics' copy, with torchvision's network.

torchvision and its pretrained weights are no dependency of the package; `pip install torchvision` brings the one, the
first use downloads the other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gs_ssd.errors import UserError


class Lpips:
    """The distance of images [B, H, W, 3] in [0, 1]; 0 for equal ones.

    Raises UserError where torchvision or the weights are missing.
    """

    def __init__(self, *, device: torch.device | str = "cpu") -> None:
        try:
            from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

            self.network = LearnedPerceptualImagePatchSimilarity(net_type="squeeze", normalize=True).to(
                device
            )
        except ModuleNotFoundError as error:
            raise UserError("LPIPS needs torchvision; `pip install torchvision` adds it") from error
        except RuntimeError as error:  # its operators are missing
            raise UserError(f"LPIPS needs a torchvision made for this torch: {error}") from error
        except OSError as error:  # no network, no room
            raise UserError(
                f"LPIPS can't get SqueezeNet's weights (the network is needed once): {error}"
            ) from error
        self.device = torch.device(device)

    @torch.no_grad()
    def __call__(self, image: Tensor, reference: Tensor) -> float:
        pair = (x.to(self.device).permute(0, 3, 1, 2) for x in (image, reference))
        distance = self.network(*pair).item()
        self.network.reset()  # it would average over all calls
        return distance
