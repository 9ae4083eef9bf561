"""FLUX.2 klein: a rectified-flow transformer with a language model as its text encoder.

Its latents are normalised patch by patch with the statistics of the autoencoder's batch norm. The base model is not
distilled and knows the empty prompt; the step-distilled one doesn't, so it refuses methods with a null branch.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from diffusers import Flux2KleinPipeline
from torch import Tensor

from gs_ssd.diffusion.flow import FlowPrior
from gs_ssd.diffusion.text import TextCondition


class Flux2KleinPrior(FlowPrior):
    """The transformer of FLUX.2 klein with its Qwen3 text encoder.

    Args:
        is_distilled: whether the model was distilled to few steps, as its model_index.json says.
    """

    def __init__(
        self,
        *,
        transformer: Any,
        vae: Any,
        scheduler: Any,
        text_encoder: Any,
        tokenizer: Any,
        is_distilled: bool = False,
        **kwargs: Any,
    ) -> None:
        parts = {"transformer": transformer, "vae": vae, "scheduler": scheduler, "encoders": [text_encoder]}
        super().__init__(**parts, family="flux2", **kwargs)
        self.has_null = not is_distilled
        self.pipeline = Flux2KleinPipeline(scheduler, vae, text_encoder, tokenizer, transformer)
        self.layers = tuple(
            round(text_encoder.config.num_hidden_layers * share) for share in (0.25, 0.5, 0.75)
        )  # 9, 18 and 27 of 36, as its pipeline takes them

    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each channel of a patch, [1, 4C, 1, 1]."""
        norm = self.vae.bn
        spread = (norm.running_var + self.vae.config.batch_norm_eps).sqrt()
        return norm.running_mean.view(1, -1, 1, 1), spread.view(1, -1, 1, 1)

    def encode(self, rgb: Tensor) -> Tensor:
        mean, spread = self._statistics()
        return (super().encode(rgb) - mean) / spread

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        mean, spread = self._statistics()
        return super().decode(z.to(spread) * spread + mean)

    def encode_words(self, prompts: list[str]) -> TextCondition:
        hidden, _ = self.pipeline.encode_prompt(
            prompts, device=self.device, text_encoder_out_layers=self.layers
        )
        return TextCondition(hidden)

    def forward(self, z_t: Tensor, time: Tensor, text: TextCondition) -> Tensor:
        packed = self.pack(z_t)
        height, width = packed.shape[-2:]
        output = self.network(
            hidden_states=packed.flatten(2).transpose(1, 2),
            timestep=time.to(z_t),
            guidance=None,
            encoder_hidden_states=text.hidden,
            txt_ids=_text_places(text.hidden.shape[1], z_t.device).expand(len(z_t), -1, -1),
            img_ids=_places(height, width, z_t.device).expand(len(z_t), -1, -1),
        ).sample
        return self.unpack(output.transpose(1, 2).unflatten(2, (height, width)))


# Kept, because every upload makes the host wait.
@cache
def _text_places(length: int, device: torch.device) -> Tensor:
    """The place of each word, [1, L, 4]."""
    return Flux2KleinPipeline._prepare_text_ids(torch.empty(1, length, 0)).to(device)


@cache
def _places(height: int, width: int, device: torch.device) -> Tensor:
    """The place of each patch, [1, h w, 4]."""
    return Flux2KleinPipeline._prepare_latent_ids(torch.empty(1, 0, height, width)).to(device)
