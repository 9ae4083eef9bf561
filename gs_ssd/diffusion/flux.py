"""FLUX.1: a rectified-flow transformer whose guidance is distilled into it.

The guidance scale is an input of the network (dev) or gone (schnell), and no empty prompt was ever compared with, so
`has_null` is false: methods that need a null branch refuse it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from diffusers import FluxPipeline
from torch import Tensor

from gs_ssd.diffusion.flow import FlowPrior
from gs_ssd.diffusion.text import TextCondition


class FluxPrior(FlowPrior):
    """The transformer of FLUX.1 with its CLIP and T5 text encoders.

    Args:
        guidance_scale: what the network of FLUX.1-dev is told.
    """

    has_null = False

    def __init__(
        self,
        *,
        transformer: Any,
        vae: Any,
        scheduler: Any,
        text_encoder: Any,
        text_encoder_2: Any,
        tokenizer: Any,
        tokenizer_2: Any,
        guidance_scale: float = 3.5,
        **kwargs: Any,
    ) -> None:
        encoders = [text_encoder, text_encoder_2]
        parts = {"transformer": transformer, "vae": vae, "scheduler": scheduler, "encoders": encoders}
        super().__init__(**parts, family="flux", **kwargs)
        self.guidance_scale = guidance_scale
        self.pipeline = FluxPipeline(
            scheduler, vae, text_encoder, tokenizer, text_encoder_2, tokenizer_2, transformer
        )

    def encode_words(self, prompts: list[str]) -> TextCondition:
        hidden, pooled, _ = self.pipeline.encode_prompt(prompts, None, device=self.device)
        return TextCondition(hidden, pooled=pooled)

    def forward(self, z_t: Tensor, time: Tensor, text: TextCondition) -> Tensor:
        packed = self.pack(z_t)  # [B, 4C, h, w]
        height, width = packed.shape[-2:]
        guidance = torch.full_like(time, self.guidance_scale).to(z_t)
        output = self.network(
            hidden_states=packed.flatten(2).transpose(1, 2),
            timestep=time.to(z_t),
            guidance=guidance if self.network.config.guidance_embeds else None,
            pooled_projections=text.pooled,
            encoder_hidden_states=text.hidden,
            txt_ids=z_t.new_zeros(text.hidden.shape[1], 3),
            img_ids=_places(height, width, z_t.dtype, z_t.device),
        ).sample
        return self.unpack(output.transpose(1, 2).unflatten(2, (height, width)))


@cache
def _places(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Row and column of each token, [h w, 3]; kept, because every upload makes the host wait."""
    return FluxPipeline._prepare_latent_image_ids(1, height, width, device, dtype)
