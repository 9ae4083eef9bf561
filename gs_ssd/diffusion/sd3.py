"""Stable Diffusion 3 and 3.5: a transformer trained by rectified flow, with up to three text encoders.

The T5 encoder may be missing, as its authors allow: its tokens are then zeros.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import StableDiffusion3Pipeline
from torch import Tensor

from gs_ssd.diffusion.diffusers_prior import DiffusersPrior, flow_schedule
from gs_ssd.diffusion.text import TextCondition


class SD3Prior(DiffusersPrior):
    """The transformer of SD 3 and 3.5."""

    half = torch.bfloat16

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
        text_encoder_3: Any = None,
        tokenizer_3: Any = None,
        **kwargs: Any,
    ) -> None:
        tokens = (transformer.config.sample_size // transformer.config.patch_size) ** 2
        super().__init__(
            network=transformer,
            vae=vae,
            schedule=flow_schedule(scheduler, tokens=tokens),
            prediction_type="flow",
            encoders=[text_encoder, text_encoder_2, text_encoder_3],
            family="sd3",
            patch=transformer.config.patch_size,
            **kwargs,
        )
        self.pipeline = StableDiffusion3Pipeline(
            transformer,
            scheduler,
            vae,
            text_encoder,
            tokenizer,
            text_encoder_2,
            tokenizer_2,
            text_encoder_3,
            tokenizer_3,
        )

    def encode_words(self, prompts: list[str]) -> TextCondition:
        hidden, _, pooled, _ = self.pipeline.encode_prompt(
            prompts, None, None, device=self.device, do_classifier_free_guidance=False
        )
        return TextCondition(hidden, pooled=pooled)

    def forward(self, z_t: Tensor, t: int, text: TextCondition) -> Tensor:
        time = torch.full((len(z_t),), 1000 * self.schedule.sigma(t), device=z_t.device)
        return self.network(
            hidden_states=z_t,
            timestep=time,
            encoder_hidden_states=text.hidden,
            pooled_projections=text.pooled,
        ).sample
