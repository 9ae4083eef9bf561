"""PixArt-Sigma: a variance-preserving transformer with a T5 text encoder, whose padding is masked out."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import PixArtSigmaPipeline
from torch import Tensor

from gs_ssd.diffusion.diffusers_prior import DiffusersPrior
from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.diffusion.text import TextCondition


class PixArtPrior(DiffusersPrior):
    """The transformer of PixArt-Sigma; it also predicts a variance, which is left out."""

    half = torch.bfloat16

    def __init__(
        self, *, transformer: Any, vae: Any, scheduler: Any, text_encoder: Any, tokenizer: Any, **kwargs: Any
    ) -> None:
        super().__init__(
            network=transformer,
            vae=vae,
            schedule=NoiseSchedule.variance_preserving(scheduler.alphas_cumprod),
            prediction_type=scheduler.config.prediction_type,
            encoders=[text_encoder],
            family="pixart",
            patch=transformer.config.patch_size,
            **kwargs,
        )
        self.pipeline = PixArtSigmaPipeline(tokenizer, text_encoder, vae, transformer, scheduler)

    def encode_words(self, prompts: list[str]) -> TextCondition:
        hidden, mask, _, _ = self.pipeline.encode_prompt(
            prompts, do_classifier_free_guidance=False, device=self.device
        )
        return TextCondition(hidden, mask=mask.bool())

    def forward(self, z_t: Tensor, time: Tensor, text: TextCondition) -> Tensor:
        assert text.mask is not None
        output = self.network(
            z_t,
            encoder_hidden_states=text.hidden,
            encoder_attention_mask=text.mask.to(z_t.dtype),
            timestep=time,
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
        ).sample
        return output.chunk(2, dim=1)[0] if output.shape[1] == 2 * z_t.shape[1] else output
