"""Z-Image: a rectified-flow transformer for prompts of different lengths, whose time runs from noise to picture."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ZImagePipeline
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gs_ssd.diffusion.diffusers_prior import DiffusersPrior, flow_schedule
from gs_ssd.diffusion.text import TextCondition

LENGTH = 512  # tokens that its pipeline reads


class ZImagePrior(DiffusersPrior):
    """The transformer of Z-Image with its Qwen3 text encoder."""

    half = torch.bfloat16

    def __init__(
        self, *, transformer: Any, vae: Any, scheduler: Any, text_encoder: Any, tokenizer: Any, **kwargs: Any
    ) -> None:
        resolution = vae.config.sample_size  # the transformer names none
        cell = 2 ** len(vae.config.block_out_channels)
        super().__init__(
            network=transformer,
            vae=vae,
            schedule=flow_schedule(scheduler, tokens=(resolution // cell) ** 2),
            prediction_type="flow",
            encoders=[text_encoder],
            family="z_image",
            patch=2,
            resolution=resolution,
            **kwargs,
        )
        self.pipeline = ZImagePipeline(scheduler, vae, text_encoder, tokenizer, transformer)

    def encode_words(self, prompts: list[str]) -> TextCondition:
        states, _ = self.pipeline.encode_prompt(
            prompts, device=self.device, do_classifier_free_guidance=False, max_sequence_length=LENGTH
        )
        # To one length, so that the prompts of one edit can be joined, however many calls encoded them.
        hidden = pad_sequence([*states, states[0].new_zeros(LENGTH, 1).expand(-1, states[0].shape[1])], True)
        mask = torch.arange(LENGTH, device=self.device) < torch.tensor(
            [[len(s)] for s in states], device=self.device
        )
        return TextCondition(hidden[:-1], mask=mask)

    def forward(self, z_t: Tensor, t: int, text: TextCondition) -> Tensor:
        assert text.mask is not None
        states = [hidden[mask] for hidden, mask in zip(text.hidden, text.mask, strict=True)]
        time = z_t.new_full((len(z_t),), 1 - self.schedule.sigma(t))
        output = self.network(list(z_t[:, :, None].unbind()), time, states, return_dict=False)[0]
        return -torch.stack(output).squeeze(2)
