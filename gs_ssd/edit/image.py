"""A picture as a canvas.

It is a LatentImage, the clean latents z themselves, or a PixelImage, whose z passes the encoder. With plain
gradient descent a latent image moves by Δz = −rate·G; the DDS authors' rate is LATENT_RATE.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.lr_scheduler import LRScheduler

from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.edit.loop import Observation, Stopwatch

# The DDS authors descend at 0.1 on 2000/(h·w)·Σ G·z, with latents of 64x64. At another size their loss would change the
# step of every element with the area; here it stays the one that they tuned.
LATENT_RATE = 0.1 * 2000 / 64**2


class LatentImage:
    """An image as clean latents z [1, C, h, w]."""

    def __init__(self, prior: DiffusionPrior, z: Tensor) -> None:
        self.prior, self.parameter = prior, Parameter(z.detach().clone())

    def latents(self) -> Tensor:
        return self.parameter

    def picture(self) -> Tensor:
        """[1, H, W, 3]."""
        return self.prior.decode(self.parameter.detach())

    def constrain(self) -> None:
        """Latents have no bounds."""


class PixelImage:
    """An image as pixels [1, H, W, 3], kept in [0, 1]."""

    def __init__(self, prior: DiffusionPrior, rgb: Tensor) -> None:
        self.prior, self.parameter = prior, Parameter(rgb.detach().clone())

    def latents(self) -> Tensor:
        return self.prior.encode(self.parameter)

    def picture(self) -> Tensor:
        """[1, H, W, 3]."""
        return self.parameter.detach().clone()

    def constrain(self) -> None:
        self.parameter.data.clamp_(0, 1)


class ImageCanvas:
    """The Canvas of a picture.

    Args:
        image: what is edited, in place.
        optimizer: over `image.parameter`.
        text: text conditions by prompt name.
        z_src: latents of the source picture; None where there is none: the canvas itself stands in.
        condition: image condition, where the prior takes one.
        scheduler: of the optimiser's rate, advanced once per step; None keeps it.
    """

    def __init__(
        self,
        image: LatentImage | PixelImage,
        *,
        optimizer: torch.optim.Optimizer,
        text: dict[str, Any],
        z_src: Tensor | None = None,
        condition: Tensor | None = None,
        scheduler: LRScheduler | None = None,
    ) -> None:
        self.image, self.optimizer, self.scheduler = image, optimizer, scheduler
        self.text, self.z_src, self.condition = text, z_src, condition
        self.walk: dict[str, Tensor] = {}  # how far a 2D editor has come

    def observe(self, generator: torch.Generator, watch: Stopwatch) -> Observation:
        self.optimizer.zero_grad()
        z = self.image.latents()
        watch.lap("encode")
        return Observation(z, z.detach() if self.z_src is None else self.z_src, self.text, self.condition)

    def settle(self) -> dict[str, Tensor]:
        gradient = self.image.parameter.grad
        return {} if gradient is None else {"the gradient of the picture": gradient.sum()}

    def move(self, step: int, num_steps: int) -> int:
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        self.image.constrain()
        return 0

    def state_dict(self) -> dict[str, Any]:
        state = {"parameter": self.image.parameter.detach(), "optimizer": self.optimizer.state_dict()}
        if self.scheduler is not None:
            state["scheduler"] = self.scheduler.state_dict()
        return state | ({"walk": self.walk} if self.walk else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.image.parameter.data.copy_(state["parameter"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.walk = {
            name: value.to(self.image.parameter.device) for name, value in state.get("walk", {}).items()
        }
