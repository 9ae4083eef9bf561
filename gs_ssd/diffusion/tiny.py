"""Every supported family in miniature, with random weights: the real architecture in well under a second.

They mean nothing, so their edits are noise; they exist to exercise the whole path without a download.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CLIPTextConfig, PreTrainedTokenizerFast, Qwen3Config, T5Config

from gs_ssd.diffusion.diffusers_prior import DiffusersPrior
from gs_ssd.diffusion.folders import PIPELINES
from gs_ssd.diffusion.load import restrict

LETTERS = string.ascii_lowercase + string.digits + "-,.'"
CONTEXT = 16
CHAT = "user {% for message in messages %}{{ message['content'] }}{% endfor %}"  # no prompt is empty


def _clip_tokenizer() -> transformers.CLIPTokenizer:
    symbols = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(letter + "</w>" for letter in LETTERS)]
    special = {
        "unk_token": symbols[1],
        "bos_token": symbols[0],
        "eos_token": symbols[1],
        "pad_token": symbols[1],
    }
    vocab = {symbol: index for index, symbol in enumerate(symbols)}
    return transformers.CLIPTokenizer(vocab=vocab, merges=[], model_max_length=CONTEXT, **special)


def _letter_tokenizer() -> PreTrainedTokenizerFast:
    """A token per letter, with a chat template: what T5's and Qwen's tokenizers are asked for."""
    vocab = {symbol: index for index, symbol in enumerate(["<pad>", "</s>", "<unk>", " ", *LETTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=CONTEXT,
        chat_template=CHAT,
    )


def _clip(kind: str = "CLIPTextModel", width: int = 32) -> Any:
    config = CLIPTextConfig(
        vocab_size=2 + 2 * len(LETTERS),
        hidden_size=width,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
        projection_dim=width,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return getattr(transformers, kind)(config)


def _t5(width: int = 32) -> transformers.T5EncoderModel:
    sizes = {"d_model": width, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    return transformers.T5EncoderModel(T5Config(vocab_size=4 + len(LETTERS), **sizes))


def _qwen() -> transformers.Qwen3ForCausalLM:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "head_dim": 16}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    return transformers.Qwen3ForCausalLM(Qwen3Config(vocab_size=4 + len(LETTERS), **sizes, **heads))


def _vae(latent_channels: int = 4, **settings: Any) -> diffusers.AutoencoderKL:
    return diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        latent_channels=latent_channels,
        norm_num_groups=4,
        layers_per_block=1,
        sample_size=64,
        **settings,
    )


def _unet(**settings: Any) -> diffusers.UNet2DConditionModel:
    sizes = {
        "sample_size": 8,
        "in_channels": 4,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "cross_attention_dim": 32,
        "attention_head_dim": 8,
    }
    return diffusers.UNet2DConditionModel(**sizes | settings)


def _vp_scheduler(kind: str = "DDIMScheduler", **settings: Any) -> Any:
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    return getattr(diffusers, kind)(**betas | settings)


def stable_diffusion(
    *, prediction_type: str = "epsilon", in_channels: int = 4, **unet: Any
) -> dict[str, Any]:
    own: dict[str, Any] = {
        "clip_sample": False,
        "set_alpha_to_one": False,
        "prediction_type": prediction_type,
    }
    text_encoder, vae = _clip(), _vae()
    return {
        "unet": _unet(in_channels=in_channels, **unet),
        "vae": vae,
        "text_encoder": text_encoder,
        "tokenizer": _clip_tokenizer(),
        "scheduler": _vp_scheduler(**own),
    }


def turbo() -> dict[str, Any]:
    scheduler = _vp_scheduler("EulerDiscreteScheduler", timestep_spacing="trailing")
    return stable_diffusion() | {"scheduler": scheduler}


def lcm() -> dict[str, Any]:
    return stable_diffusion(time_cond_proj_dim=32) | {"scheduler": _vp_scheduler("LCMScheduler")}


def sdxl() -> dict[str, Any]:
    attention = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "cross_attention_dim": 64}
    return {
        "unet": _unet(**attention, projection_class_embeddings_input_dim=6 * 8 + 32),
        "vae": _vae(scaling_factor=0.13025, force_upcast=True),
        "text_encoder": _clip(),
        "text_encoder_2": _clip("CLIPTextModelWithProjection"),
        "tokenizer": _clip_tokenizer(),
        "tokenizer_2": _clip_tokenizer(),
        "scheduler": _vp_scheduler("EulerDiscreteScheduler"),
    }


def sdxl_turbo() -> dict[str, Any]:
    scheduler = _vp_scheduler("EulerAncestralDiscreteScheduler", timestep_spacing="trailing")
    return sdxl() | {"scheduler": scheduler}


def sd3() -> dict[str, Any]:
    sizes = {"sample_size": 8, "patch_size": 2, "in_channels": 4, "out_channels": 4, "num_layers": 2}
    heads = {"attention_head_dim": 8, "num_attention_heads": 4, "pos_embed_max_size": 96}
    widths = {"joint_attention_dim": 64, "caption_projection_dim": 32, "pooled_projection_dim": 64}
    return {
        "transformer": diffusers.SD3Transformer2DModel(**sizes, **heads, **widths),
        "vae": _vae(
            scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False
        ),
        "text_encoder": _clip("CLIPTextModelWithProjection"),
        "text_encoder_2": _clip("CLIPTextModelWithProjection"),
        "text_encoder_3": None,
        "tokenizer": _clip_tokenizer(),
        "tokenizer_2": _clip_tokenizer(),
        "tokenizer_3": None,
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    }


def sd3_t5() -> dict[str, Any]:
    return sd3() | {"text_encoder_3": _t5(64), "tokenizer_3": _letter_tokenizer()}


def flux(*, guidance_embeds: bool = True) -> dict[str, Any]:
    sizes = {"patch_size": 1, "in_channels": 16, "num_layers": 1, "num_single_layers": 1}
    heads = {"attention_head_dim": 16, "num_attention_heads": 2, "axes_dims_rope": (4, 4, 8)}
    widths = {"joint_attention_dim": 32, "pooled_projection_dim": 32, "guidance_embeds": guidance_embeds}
    return {
        "transformer": diffusers.FluxTransformer2DModel(**sizes, **heads, **widths),
        "vae": _vae(scaling_factor=0.3611, shift_factor=0.1159),
        "text_encoder": _clip(),
        "text_encoder_2": _t5(),
        "tokenizer": _clip_tokenizer(),
        "tokenizer_2": _letter_tokenizer(),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
    }


def flux2() -> dict[str, Any]:
    sizes = {"patch_size": 1, "in_channels": 16, "num_layers": 1, "num_single_layers": 1}
    heads = {"attention_head_dim": 16, "num_attention_heads": 2, "axes_dims_rope": (4, 4, 4, 4)}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    channels = {"block_out_channels": (8, 8, 16, 16), "latent_channels": 4, "norm_num_groups": 4}
    return {
        "transformer": diffusers.Flux2Transformer2DModel(
            **sizes, **heads, joint_attention_dim=96, guidance_embeds=False
        ),
        "vae": diffusers.AutoencoderKLFlux2(**blocks, **channels, layers_per_block=1, sample_size=64),
        "text_encoder": _qwen(),
        "tokenizer": _letter_tokenizer(),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
    }


def z_image() -> dict[str, Any]:
    sizes = {"in_channels": 4, "dim": 32, "n_layers": 1, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2}
    places = {"axes_dims": [4, 4, 8], "axes_lens": [1024, 64, 64], "cap_feat_dim": 32}
    return {
        "transformer": diffusers.ZImageTransformer2DModel(**sizes, **places),
        "vae": _vae(scaling_factor=0.3611, shift_factor=0.1159),
        "text_encoder": _qwen(),
        "tokenizer": _letter_tokenizer(),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    }


def pixart() -> dict[str, Any]:
    sizes = {"sample_size": 8, "patch_size": 2, "in_channels": 4, "out_channels": 8, "num_layers": 2}
    heads = {"attention_head_dim": 8, "num_attention_heads": 4, "cross_attention_dim": 32}
    return {
        "transformer": diffusers.PixArtTransformer2DModel(
            **sizes, **heads, caption_channels=32, use_additional_conditions=False
        ),
        "vae": _vae(scaling_factor=0.13025),
        "text_encoder": _t5(),
        "tokenizer": _letter_tokenizer(),
        "scheduler": _vp_scheduler("DPMSolverMultistepScheduler"),
    }


# Family → (its parts, the pipeline that its folder names).
MINIATURES: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "sd": (stable_diffusion, "StableDiffusionPipeline"),
    "sd_v": (lambda: stable_diffusion(prediction_type="v_prediction"), "StableDiffusionPipeline"),
    "ip2p": (lambda: stable_diffusion(in_channels=8), "StableDiffusionInstructPix2PixPipeline"),
    "sd_turbo": (turbo, "StableDiffusionPipeline"),
    "lcm": (lcm, "LatentConsistencyModelPipeline"),
    "sdxl": (sdxl, "StableDiffusionXLPipeline"),
    "sdxl_turbo": (sdxl_turbo, "StableDiffusionXLPipeline"),
    "sd3": (sd3, "StableDiffusion3Pipeline"),
    "sd3_t5": (sd3_t5, "StableDiffusion3Pipeline"),
    "flux": (flux, "FluxPipeline"),
    "flux2": (flux2, "Flux2KleinPipeline"),
    "z_image": (z_image, "ZImagePipeline"),
    "pixart": (pixart, "PixArtSigmaPipeline"),
}


def tiny_parts(
    *, seed: int = 0, prediction_type: str = "epsilon", image_condition: bool = False
) -> dict[str, Any]:
    """The five parts of Stable Diffusion for 64-pixel images, as `StableDiffusionPrior` takes them.

    Args:
        seed: of the random weights.
        prediction_type: "epsilon" as SD 1.x and 2.x-base, or "v_prediction" as SD 2.x at 768 pixels.
        image_condition: twice the input channels, as InstructPix2Pix has.
    """
    channels = 8 if image_condition else 4
    return _seeded(lambda: stable_diffusion(prediction_type=prediction_type, in_channels=channels), seed)


def tiny_prior(
    family: str = "sd",
    *,
    seed: int = 0,
    image_condition: bool = False,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    freeu: bool = False,
    offload: str = "text",
) -> DiffusersPrior:
    """A family's miniature as a prior; `image_condition` makes Stable Diffusion's an InstructPix2Pix."""
    family = "ip2p" if image_condition else family
    make, pipeline = MINIATURES[family]
    module, _, adapter = PIPELINES[pipeline].adapter.partition(":")
    prior_class = getattr(import_module(module), adapter)
    settings = {"device": device, "dtype": dtype, "freeu": freeu, "offload": offload}
    prior = prior_class(**_seeded(make, seed), name="tiny (random weights)", **settings)
    prior.family = "tiny"
    return restrict(prior, {"sd_turbo": "turbo", "sdxl_turbo": "turbo", "lcm": "lcm"}.get(family, ""))


def _seeded(make: Callable[[], dict[str, Any]], seed: int) -> dict[str, Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def save_miniature(family: str, folder: str | Path, *, seed: int = 0) -> Path:
    """Write a family's miniature as a folder in diffusers format."""
    make, pipeline = MINIATURES[family]
    parts = _seeded(make, seed)
    checker = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    extra = checker if "unet" in parts and "text_encoder_2" not in parts else {}
    getattr(diffusers, pipeline)(**parts, **extra).save_pretrained(folder)
    return Path(folder)
