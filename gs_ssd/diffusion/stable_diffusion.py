"""Stable Diffusion 1.x and 2.x, InstructPix2Pix, their distilled kin (SD-Turbo, LCM), and the embedded prior."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from difflib import get_close_matches
from functools import cached_property
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models import Transformer2DModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from gs_ssd.diffusion.diffusers_prior import Ask, DiffusersPrior
from gs_ssd.diffusion.freeu import enable_freeu
from gs_ssd.diffusion.joint_attention import shared_self_attention
from gs_ssd.diffusion.patch_autoencoder import PatchAutoencoder
from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.diffusion.text import TextCondition

LCM_SCALE = (
    8.5  # the guidance scale that an LCM is told to have been distilled with, as its pipeline's default
)


class UNetPrior(DiffusersPrior):
    """What the priors with a UNet2DConditionModel share: FreeU, image conditions, features, a ControlNet."""

    controlnet: Any = None
    control_scale = 1.0

    def __init__(self, *, unet: UNet2DConditionModel, scheduler: DDIMScheduler, **kwargs: Any) -> None:
        super().__init__(
            network=unet,
            schedule=NoiseSchedule.variance_preserving(scheduler.alphas_cumprod),
            prediction_type=scheduler.config.prediction_type,
            **kwargs,
        )
        self.has_self_attention = any(getattr(block, "attentions", ()) for block in unet.up_blocks)

    @property
    def unet(self) -> UNet2DConditionModel:
        return self.network

    def network_output(
        self,
        z_t: Tensor,
        t: int,
        text: TextCondition,
        image: Tensor | None = None,
        *,
        freeu: bool = False,
        ask: Ask | None = None,
    ) -> Tensor:
        if self.takes_image:
            if image is None:
                raise ValueError(f"{self.name} needs an image condition")
            z_t = torch.cat([z_t, image], dim=1)
        return super().network_output(z_t, t, text, freeu=freeu and self.freeu, ask=ask)

    def ask(self, z_t: Tensor, time: Tensor, text: TextCondition, freeu: bool) -> Tensor:
        with enable_freeu(self.unet) if freeu else nullcontext():
            return self.forward(z_t, time, text)

    @property
    def running(self) -> list[Any]:
        return super().running + ([] if self.controlnet is None else [self.controlnet])

    def controlled(
        self, z_t: Tensor, time: Tensor, text: TextCondition, added: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """What the ControlNet adds to a call of the UNet; nothing where there is none, or no picture for it."""
        if self.controlnet is None or text.control is None:
            return {}
        down, middle = self.controlnet(
            z_t,
            time,
            text.hidden,
            text.control,
            conditioning_scale=self.control_scale,
            added_cond_kwargs=added,
            return_dict=False,
        )
        return {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}

    def attention_features(
        self, z_t: Tensor, t: int, text: TextCondition, image: Tensor | None = None, *, freeu: bool = False
    ) -> list[Tensor]:
        if not self.has_self_attention:
            return super().attention_features(z_t, t, text, image)
        features: list[Tensor] = []
        handles = []
        for block in self.unet.up_blocks:
            for transformer in getattr(block, "attentions", []):
                handles += _collect_self_attention(transformer, features)
        try:
            self.network_output(z_t, t, text, image, freeu=freeu)
        finally:
            for handle in handles:
                handle.remove()
        return [feature.to(z_t.dtype) for feature in features]

    @contextmanager
    def joint_attention(self, count: int) -> Iterator[None]:
        shortcut, self.shortcut = self.shortcut, None  # a frozen graph has no place for it
        try:
            with shared_self_attention(self.unet, count):
                yield
        finally:
            self.shortcut = shortcut


class StableDiffusionPrior(UNetPrior):
    """A UNet with one CLIP text encoder.

    Args:
        unet, vae, text_encoder, tokenizer, scheduler: the parts, as diffusers loads them.
        vocabulary: the words the text encoder was trained on, where that is a closed list.
        family: None recognises sd, ip2p and embedded by their parts.
    """

    def __init__(
        self,
        *,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL | PatchAutoencoder,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        scheduler: DDIMScheduler,
        name: str = "diffusers",
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        freeu: bool = False,
        offload: str = "text",
        vocabulary: dict[str, list[str]] | None = None,
        family: str | None = None,
    ) -> None:
        self.takes_image = unet.config.in_channels == 2 * vae.config.latent_channels
        own = "embedded" if isinstance(vae, PatchAutoencoder) else "ip2p" if self.takes_image else "sd"
        super().__init__(
            unet=unet,
            vae=vae,
            scheduler=scheduler,
            encoders=[text_encoder],
            name=name,
            family=family or own,
            device=device,
            dtype=dtype,
            freeu=freeu,
            offload=offload,
        )
        self.text_encoder, self.tokenizer = self.encoders[0], tokenizer
        self._scheduler = scheduler
        self.vocabulary = vocabulary
        size = unet.config.time_cond_proj_dim  # a latent consistency model's
        self.scale = None if size is None else scale_embedding(LCM_SCALE - 1, size).to(self.device)

    @cached_property
    def pipeline(self) -> StableDiffusionPipeline:
        """The parts as diffusers' own pipeline, which knows how to read a LoRA."""
        checker = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        parts = (self.vae, self.text_encoder, self.tokenizer, self.unet, self._scheduler)
        return StableDiffusionPipeline(*parts, **checker)

    @torch.no_grad()
    def encode_condition(self, rgb: Tensor) -> Tensor:
        """InstructPix2Pix's image condition: the posterior mode, not scaled."""
        if not self.takes_image:
            return super().encode_condition(rgb)
        return self.encode(rgb) / self.scaling_factor

    def encode_words(self, prompts: list[str]) -> TextCondition:
        length = self.text_encoder.config.max_position_embeddings
        for prompt in prompts:
            used = len(self.tokenizer(prompt, verbose=False).input_ids)
            if used > length:
                warnings.warn(
                    f"{prompt[:40]!r}... has {used} tokens and {self.name} reads {length}: its end is ignored",
                    stacklevel=2,
                )
        tokens = self.tokenizer(
            prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        return TextCondition(self.text_encoder(tokens.input_ids.to(self.device)).last_hidden_state)

    def forward(self, z_t: Tensor, time: Tensor, text: TextCondition) -> Tensor:
        scale = None if self.scale is None else self.scale.to(z_t).expand(len(z_t), -1)
        added = self.controlled(z_t, time, text)
        return self.unet(z_t, time, text.hidden, timestep_cond=scale, **added).sample

    def unknown_words(self, prompt: str) -> list[str]:
        if self.vocabulary is None:
            return []
        known = set(self.vocabulary["words"])
        return [word for word in re.findall(r"[a-z0-9]+", prompt.lower()) if word not in known]

    def nearest_words(self, word: str) -> list[str]:
        return get_close_matches(word, self.vocabulary["words"], n=3, cutoff=0.6) if self.vocabulary else []


def scale_embedding(w: float, size: int) -> Tensor:
    """How a latent consistency model is told its guidance scale: sines and cosines of 1000 w, [1, size]."""
    rates = torch.exp(-torch.arange(size // 2) * torch.log(torch.tensor(10000.0)) / (size // 2 - 1))
    angles = 1000 * w * rates
    return torch.cat([angles.sin(), angles.cos()])[None]


def _collect_self_attention(
    transformer: Transformer2DModel, features: list[Tensor]
) -> list[torch.utils.hooks.RemovableHandle]:
    """Hook the self-attentions of a transformer block so that they append their output as [B, C, h, w]."""
    size: list[int] = []

    def remember_size(module: Any, inputs: tuple[Tensor, ...]) -> None:
        size[:] = inputs[0].shape[-2:]

    def append(module: Any, inputs: Any, output: Tensor) -> None:
        features.append(output.transpose(1, 2).unflatten(2, size))  # [B, h w, C] → [B, C, h, w]

    layers = [layer.attn1 for layer in transformer.transformer_blocks]
    return [
        transformer.register_forward_pre_hook(remember_size),
        *(attention.register_forward_hook(append) for attention in layers),
    ]
