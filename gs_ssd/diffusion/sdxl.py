"""Stable Diffusion XL and SDXL-Turbo: two text encoders, a pooled vector, and the picture's size as a condition.

The size told is the picture's own, uncropped, as its pipeline does by default. The autoencoder overflows in float16,
which is one more reason that it stays in float32.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from torch import Tensor

from gs_ssd.diffusion.stable_diffusion import UNetPrior
from gs_ssd.diffusion.text import TextCondition


class SDXLPrior(UNetPrior):
    """The UNet of SDXL with its CLIP-L and OpenCLIP-G text encoders."""

    def __init__(
        self,
        *,
        unet: Any,
        vae: Any,
        text_encoder: Any,
        text_encoder_2: Any,
        tokenizer: Any,
        tokenizer_2: Any,
        scheduler: Any,
        **kwargs: Any,
    ) -> None:
        encoders = [text_encoder, text_encoder_2]
        super().__init__(unet=unet, vae=vae, scheduler=scheduler, encoders=encoders, family="sdxl", **kwargs)
        self.pipeline = StableDiffusionXLPipeline(
            vae, text_encoder, text_encoder_2, tokenizer, tokenizer_2, unet, scheduler, add_watermarker=False
        )

    def encode_words(self, prompts: list[str]) -> TextCondition:
        hidden, _, pooled, _ = self.pipeline.encode_prompt(
            prompts, device=self.device, do_classifier_free_guidance=False
        )
        return TextCondition(hidden, pooled=pooled)

    def forward(self, z_t: Tensor, time: Tensor, text: TextCondition) -> Tensor:
        height, width = (side * self.vae_scale_factor for side in z_t.shape[-2:])
        sizes = _sizes(height, width, z_t.dtype, z_t.device)
        added = {"text_embeds": text.pooled, "time_ids": sizes.expand(len(z_t), -1)}
        control = self.controlled(z_t, time, text, added)
        return self.unet(z_t, time, text.hidden, added_cond_kwargs=added, **control).sample


@cache
def _sizes(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Original size, top left corner and target size, [6]; kept, because every upload makes the host wait."""
    return torch.tensor([height, width, 0, 0, height, width], dtype=dtype, device=device)
