"""FLUX.1: a rectified-flow transformer whose guidance is distilled into it.

The guidance scale is an input of the network (dev) or gone (schnell), and no empty prompt was ever compared with, so
`has_null` is false: methods that need a null branch refuse it.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FluxPipeline
from torch import Tensor

from gs_ssd.diffusion.diffusers_prior import DiffusersPrior, flow_schedule
from gs_ssd.diffusion.text import TextCondition


class FluxPrior(DiffusersPrior):
    """The transformer of FLUX.1 with its CLIP and T5 text encoders.

    Args:
        guidance_scale: what the network of FLUX.1-dev is told.
    """

    half = torch.bfloat16
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
        resolution = vae.config.sample_size  # the transformer names none
        cell = 2 ** len(vae.config.block_out_channels)
        super().__init__(
            network=transformer,
            vae=vae,
            schedule=flow_schedule(scheduler, tokens=(resolution // cell) ** 2),
            prediction_type="flow",
            encoders=[text_encoder, text_encoder_2],
            family="flux",
            patch=2,
            resolution=resolution,
            **kwargs,
        )
        self.guidance_scale = guidance_scale
        self.pipeline = FluxPipeline(
            scheduler, vae, text_encoder, tokenizer, text_encoder_2, tokenizer_2, transformer
        )

    def encode_words(self, prompts: list[str]) -> TextCondition:
        hidden, pooled, _ = self.pipeline.encode_prompt(prompts, None, device=self.device)
        return TextCondition(hidden, pooled=pooled)

    def forward(self, z_t: Tensor, t: int, text: TextCondition) -> Tensor:
        packed = self.pack(z_t)  # [B, 4C, h, w]
        height, width = packed.shape[-2:]
        full = packed.new_full((len(z_t),), 1.0)
        places = FluxPipeline._prepare_latent_image_ids(1, height, width, z_t.device, z_t.dtype)
        output = self.network(
            hidden_states=packed.flatten(2).transpose(1, 2),
            timestep=full * self.schedule.sigma(t),
            guidance=full * self.guidance_scale if self.network.config.guidance_embeds else None,
            pooled_projections=text.pooled,
            encoder_hidden_states=text.hidden,
            txt_ids=z_t.new_zeros(text.hidden.shape[1], 3),
            img_ids=places,
        ).sample
        return self.unpack(output.transpose(1, 2).unflatten(2, (height, width)))
