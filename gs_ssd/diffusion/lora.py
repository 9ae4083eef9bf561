"""A trainable twin of a prior: the same frozen network with low-rank adapters in its attentions.

The twin's network shares every weight with the prior's and owns only the adapters (W + B A, with B zero at first, so
it starts as the same function). The prior itself is never touched: other guidances see it as it was.
"""

from __future__ import annotations

import copy
import math
from itertools import chain
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from gs_ssd.diffusion.diffusers_prior import DiffusersPrior
from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.diffusion.text import TextCondition
from gs_ssd.errors import UserError
from gs_ssd.ranks import ALONE, Ranks

ADAPTED = ("to_q", "to_k", "to_v", "to_out.0")


class LoraTwin:
    """Predicts noise like the prior, and learns the noise of given latents.

    Args:
        prior: the prior to twin; needs attention layers.
        rank: of the adapters.
        lr: AdamW's learning rate.
        init: of A: "kaiming", uniform as peft does, or "gaussian", with deviation 1/rank as published.

    Raises:
        UserError: the prior has no attention layers to adapt.
    """

    def __init__(
        self, prior: DiffusionPrior, *, rank: int = 4, lr: float = 1e-4, init: str = "kaiming"
    ) -> None:
        # Imported here, because it takes two seconds that only VSD needs to wait.
        from peft import LoraConfig, inject_adapter_in_model

        if not isinstance(prior, DiffusersPrior) or not _has_attention(prior.network):
            raise UserError(
                f"the {prior.name} prior has no attention layers, which guidance=vsd adapts; "
                "use diffusion=sd21, or guidance=sds or nfsd"
            )
        self.prior = prior
        shared = {id(tensor): tensor for tensor in chain(prior.network.parameters(), prior.network.buffers())}
        network = copy.deepcopy(prior.network, shared)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            kind: Literal["gaussian"] | bool = "gaussian" if init == "gaussian" else True
            config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(ADAPTED), init_lora_weights=kind)
            inject_adapter_in_model(config, network)
        self.named = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self.parameters = list(self.named.values())
        for parameter in self.parameters:
            parameter.data = parameter.data.float()  # AdamW's small updates vanish in half precision
        self.twin = copy.copy(prior)
        self.twin.network = network
        self.twin.shortcut = None  # adapters change, and an export doesn't
        self.optimizer = torch.optim.AdamW(self.parameters, lr=lr)

    def predict_noise(self, z_t: Tensor, t: int, text: TextCondition, image: Tensor | None) -> Tensor:
        """ε-prediction [B, C, h, w] with the adapters, conditions as the prior takes them; no gradient."""
        return self.twin.predict_noise(z_t, t, text, image)

    def state_dict(self) -> dict[str, Tensor]:
        """Adapters and AdamW's moments: "<adapter>", "<adapter>/step", "<adapter>/exp_avg", "<adapter>/exp_avg_sq"."""
        state = {name: parameter.detach().clone() for name, parameter in self.named.items()}
        for name, parameter in self.named.items():
            state |= {f"{name}/{key}": x.clone() for key, x in self.optimizer.state[parameter].items()}
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a `state_dict` of a twin of the same prior and rank; raises ValueError for another one's."""
        moments: dict[str, dict[str, Tensor]] = {name: {} for name in self.named}
        for key, tensor in state.items():
            name, _, moment = key.partition("/")
            if name not in self.named or (not moment and tensor.shape != self.named[name].shape):
                raise ValueError(
                    f"the adapters don't fit {self.prior.name} at this rank: {key} {tuple(tensor.shape)}"
                )
            if moment:
                moments[name][moment] = tensor
            else:
                self.named[name].data.copy_(tensor)
        for name, parameter in self.named.items():
            if name not in state:
                raise ValueError(f"the adapters are incomplete: {name} is missing")
            self.optimizer.state[parameter] = {
                key: x.clone() if key == "step" else x.clone().to(parameter.device)  # AdamW counts on the CPU
                for key, x in moments[name].items()
            }

    def loss(self, z: Tensor, t: int, text: TextCondition, image: Tensor | None, noise: Tensor) -> Tensor:
        """The denoising loss of clean latents z at timestep t, in what the network predicts (ε, v or z)."""
        z_t = self.prior.schedule.add_noise(z, noise, t)
        return F.mse_loss(
            self.twin.network_output(z_t, t, text, image), self.twin.network_target(z, noise, t)
        )

    def train_step(
        self,
        z: Tensor,
        text: TextCondition,
        image: Tensor | None,
        generator: torch.Generator | None = None,
        ranks: Ranks = ALONE,
    ) -> float:
        """One AdamW step on all ranks' z at t' ~ U{0, …, T − 1} with its own noise; returns the loss."""
        t = int(torch.randint(len(self.prior.schedule), (), generator=generator))
        noise = ranks.noise_like(z, generator)
        with torch.enable_grad():
            loss = self.loss(z.detach(), t, text, image, noise)
            self.optimizer.zero_grad()
            # AdamW doesn't mind the scale; the mean's tiny gradients would vanish in a half-precision network.
            (loss * z.numel()).backward()
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        ranks.add_up(gradients)
        found = torch.stack(
            [loss.detach().float(), torch.nn.utils.get_total_norm(gradients).float()]
        ).tolist()
        if math.isfinite(found[1]):  # an overflow in half precision would stay in the adapters for good
            self.optimizer.step()
        return found[0]


def _has_attention(network: torch.nn.Module) -> bool:
    return any(name.endswith(ADAPTED) for name, _ in network.named_modules())
