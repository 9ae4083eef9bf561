"""A trainable twin of a prior: the same frozen network with low-rank adapters in its attentions.

The twin's UNet shares every weight with the prior's and owns only the adapters (W + B A, with B zero at first, so
it starts as the same function). The prior itself is never touched: other guidances see it as it was.
"""

from __future__ import annotations

import copy
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor

from gs_ssd.diffusion.diffusers_prior import DiffusersPrior
from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.errors import UserError

ADAPTED = ("to_q", "to_k", "to_v", "to_out.0")


class LoraTwin:
    """Predicts noise like the prior, and learns the noise of given latents.

    Args:
        prior: the prior to twin; needs attention layers.
        rank: of the adapters.
        lr: AdamW's learning rate.

    Raises:
        UserError: the prior has no attention layers to adapt.
    """

    def __init__(self, prior: DiffusionPrior, *, rank: int = 4, lr: float = 1e-4) -> None:
        # Imported here, because it takes two seconds that only VSD needs to wait.
        from peft import LoraConfig, inject_adapter_in_model

        if not isinstance(prior, DiffusersPrior) or not _has_attention(prior.unet):
            raise UserError(
                f"the {prior.name} prior has no attention layers, which guidance=vsd adapts; "
                "use diffusion=sd21, or guidance=sds or nfsd"
            )
        self.prior = prior
        shared = {id(tensor): tensor for tensor in chain(prior.unet.parameters(), prior.unet.buffers())}
        unet = copy.deepcopy(prior.unet, shared)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(ADAPTED)), unet)
        self.parameters = [parameter for parameter in unet.parameters() if parameter.requires_grad]
        for parameter in self.parameters:
            parameter.data = parameter.data.float()  # AdamW's small updates vanish in half precision
        self.twin = copy.copy(prior)
        self.twin.unet = unet
        self.optimizer = torch.optim.AdamW(self.parameters, lr=lr)

    def predict(self, z_t: Tensor, t: int, text: Tensor, image: Tensor | None) -> Tensor:
        """ε-prediction [B, C, h, w] with the adapters, conditions as the prior takes them; no gradient."""
        return self.twin.predict(z_t, t, text, image)

    def loss(self, z: Tensor, t: int, text: Tensor, image: Tensor | None, noise: Tensor) -> Tensor:
        """The denoising loss of clean latents z at timestep t, in what the network predicts (ε, v or z)."""
        z_t = self.prior.schedule.add_noise(z, noise, t)
        return F.mse_loss(
            self.twin.network_output(z_t, t, text, image), self.twin.network_target(z, noise, t)
        )

    def train_step(
        self, z: Tensor, text: Tensor, image: Tensor | None, generator: torch.Generator | None = None
    ) -> float:
        """One AdamW step on z at t' ~ U{0, …, T − 1} with its own noise; returns the loss."""
        t = int(torch.randint(len(self.prior.schedule), (), generator=generator))
        noise = torch.randn(z.shape, generator=generator).to(z)
        with torch.enable_grad():
            loss = self.loss(z.detach(), t, text, image, noise)
            self.optimizer.zero_grad()
            # AdamW doesn't mind the scale; the mean's tiny gradients would vanish in a half-precision network.
            (loss * z.numel()).backward()
        self.optimizer.step()
        return loss.item()


def _has_attention(unet: torch.nn.Module) -> bool:
    return any(name.endswith(ADAPTED) for name, _ in unet.named_modules())
