"""Full-size networks with random weights: what speed and memory depend on, and nothing that a picture depends on.

The network and the autoencoder have the published configurations; text encoders are as wide as the published ones but
two layers deep, for an edit asks them once. Weights are made on the device, in the type they run in.
"""

from __future__ import annotations

from typing import Any

import diffusers
import torch

from gs_ssd.diffusion.diffusers_prior import DiffusersPrior
from gs_ssd.diffusion.sd3 import SD3Prior
from gs_ssd.diffusion.sdxl import SDXLPrior
from gs_ssd.diffusion.stable_diffusion import StableDiffusionPrior
from gs_ssd.diffusion.tiny import _clip, _clip_tokenizer, _vp_scheduler

SD21 = {"sample_size": 64, "cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20]}
SDXL = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
SD35 = {  # medium
    "sample_size": 128,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 24,
    "num_attention_heads": 24,
    "caption_projection_dim": 1536,
    "pos_embed_max_size": 384,
    "dual_attention_layers": tuple(range(13)),
    "qk_norm": "rms_norm",
}


def full_size_prior(
    family: str, *, device: torch.device, dtype: torch.dtype, **settings: Any
) -> DiffusersPrior:
    """SD 2.1-base ("sd21"), "sdxl" or SD 3.5 medium ("sd35")."""
    make = {"sd21": _sd21, "sdxl": _sdxl, "sd35": _sd35}[family]
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            adapter, parts = make()
    finally:
        torch.set_default_dtype(default)
    return adapter(**parts, name=f"{family} (random weights)", device=device, dtype=dtype, **settings)


def _autoencoder(latent_channels: int = 4, **settings: Any) -> diffusers.AutoencoderKL:
    return diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=latent_channels,
        **settings,
    )


def _sd21() -> tuple[type[DiffusersPrior], dict[str, Any]]:
    parts = {"text_encoder": _clip(width=1024), "tokenizer": _clip_tokenizer(), "scheduler": _vp_scheduler()}
    unet = diffusers.UNet2DConditionModel(use_linear_projection=True, **SD21)
    return StableDiffusionPrior, parts | {"unet": unet, "vae": _autoencoder(), "family": "sd", "freeu": True}


def _sdxl() -> tuple[type[DiffusersPrior], dict[str, Any]]:
    parts = {
        "unet": diffusers.UNet2DConditionModel(use_linear_projection=True, **SDXL),
        "vae": _autoencoder(scaling_factor=0.13025),
        "text_encoder": _clip(width=768),
        "text_encoder_2": _clip("CLIPTextModelWithProjection", width=1280),
        "tokenizer": _clip_tokenizer(),
        "tokenizer_2": _clip_tokenizer(),
        "scheduler": _vp_scheduler(),
    }
    return SDXLPrior, parts


def _sd35() -> tuple[type[DiffusersPrior], dict[str, Any]]:
    parts = {
        "transformer": diffusers.SD3Transformer2DModel(**SD35),
        "vae": _autoencoder(16, scaling_factor=1.5305, shift_factor=0.0609),
        "text_encoder": _clip("CLIPTextModelWithProjection", width=768),
        "text_encoder_2": _clip("CLIPTextModelWithProjection", width=1280),
        "tokenizer": _clip_tokenizer(),
        "tokenizer_2": _clip_tokenizer(),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    }
    return SD3Prior, parts
