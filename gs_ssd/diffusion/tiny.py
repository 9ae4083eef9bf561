"""A Stable Diffusion pipeline in miniature, with random weights: the architecture of the real one in under a second.

It means nothing, so its edits are noise; it exists to exercise the whole path without a download.
"""

from __future__ import annotations

import string
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from gs_ssd.diffusion.diffusers_prior import DiffusersPrior

CONTEXT = 16


def tiny_parts(
    *, seed: int = 0, prediction_type: str = "epsilon", image_condition: bool = False
) -> dict[str, Any]:
    """The five parts of a pipeline for 64-pixel images, as `DiffusersPrior` takes them.

    Args:
        seed: of the random weights.
        prediction_type: "epsilon" as SD 1.x and 2.x-base, or "v_prediction" as SD 2.x at 768 pixels.
        image_condition: twice the input channels, as InstructPix2Pix has.
    """
    alphabet = string.ascii_lowercase + string.digits + "-,.'"
    symbols = ["<|startoftext|>", "<|endoftext|>", *alphabet, *(letter + "</w>" for letter in alphabet)]
    tokenizer = CLIPTokenizer(
        vocab={symbol: index for index, symbol in enumerate(symbols)},
        merges=[],
        model_max_length=CONTEXT,
        unk_token="<|endoftext|>",
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(symbols),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=CONTEXT,
                bos_token_id=0,
                eos_token_id=1,
                pad_token_id=1,
            )
        )
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(8, 8, 16, 16),
            norm_num_groups=4,
            layers_per_block=1,
            sample_size=64,
        )
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=8 if image_condition else 4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            block_out_channels=(16, 32),
            layers_per_block=1,
            norm_num_groups=4,
            cross_attention_dim=32,
            attention_head_dim=8,
        )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
    )
    return {
        "unet": unet,
        "vae": vae,
        "text_encoder": text_encoder,
        "tokenizer": tokenizer,
        "scheduler": scheduler,
    }


def tiny_prior(
    *,
    seed: int = 0,
    image_condition: bool = False,
    device: torch.device | str = "cpu",
    freeu: bool = False,
) -> DiffusersPrior:
    """The miniature as a prior."""
    parts = tiny_parts(seed=seed, image_condition=image_condition)
    return DiffusersPrior(**parts, name="tiny (random weights)", family="tiny", device=device, freeu=freeu)
