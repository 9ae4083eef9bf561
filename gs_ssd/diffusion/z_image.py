"""Z-Image: a rectified-flow transformer for prompts of different lengths, whose time runs from noise to picture."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ZImagePipeline
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gs_ssd.diffusion.flow import FlowPrior
from gs_ssd.diffusion.text import TextCondition

LENGTH = 512  # tokens that its pipeline reads


class ZImagePrior(FlowPrior):
    """The transformer of Z-Image with its Qwen3 text encoder."""

    def __init__(
        self, *, transformer: Any, vae: Any, scheduler: Any, text_encoder: Any, tokenizer: Any, **kwargs: Any
    ) -> None:
        parts = {"transformer": transformer, "vae": vae, "scheduler": scheduler, "encoders": [text_encoder]}
        super().__init__(**parts, family="z_image", **kwargs)
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

    def time(self, t: int) -> float:
        return 1 - self.schedule.sigma(t)

    def forward(self, z_t: Tensor, time: Tensor, text: TextCondition) -> Tensor:
        assert text.mask is not None
        states = [hidden[mask] for hidden, mask in zip(text.hidden, text.mask, strict=True)]
        output = self.network(list(z_t[:, :, None].unbind()), time.to(z_t), states, return_dict=False)[0]
        return -torch.stack(output).squeeze(2)
