"""Stable Diffusion 3 and 3.5: a transformer trained by rectified flow, with up to three text encoders.

The T5 encoder may be missing, as its authors allow: its tokens are then zeros.
"""

from __future__ import annotations

from typing import Any

from diffusers import StableDiffusion3Pipeline
from torch import Tensor

from gs_ssd.diffusion.flow import FlowPrior
from gs_ssd.diffusion.text import TextCondition


class SD3Prior(FlowPrior):
    """The transformer of SD 3 and 3.5."""

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
        encoders = [text_encoder, text_encoder_2, text_encoder_3]
        parts = {"transformer": transformer, "vae": vae, "scheduler": scheduler, "encoders": encoders}
        super().__init__(**parts, family="sd3", **kwargs)
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

    def time(self, t: int) -> float:
        return 1000 * self.schedule.sigma(t)

    def forward(self, z_t: Tensor, time: Tensor, text: TextCondition) -> Tensor:
        return self.network(
            hidden_states=z_t,
            timestep=time,
            encoder_hidden_states=text.hidden,
            pooled_projections=text.pooled,
        ).sample
