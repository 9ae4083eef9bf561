"""Full-size networks with random weights: what speed and memory depend on, and nothing that a picture depends on.

Networks, autoencoders and text encoders have the published configurations, so that they can be counted (on the meta
device), timed, and written as folders that load like the published ones. Only the tokenizers are miniatures: they know
letters, and the tables of words behind them have the published lengths. Weights are made on the device, in the type
that they run in.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from gs_ssd.diffusion.diffusers_prior import DiffusersPrior
from gs_ssd.diffusion.folders import PIPELINES
from gs_ssd.diffusion.tiny import _clip_tokenizer, _letter_tokenizer, _vp_scheduler

Config = dict[str, Any]
# A text encoder: its class, its configuration's class, and that.
Text = tuple[str, str, Config]


def _clip(width: int, layers: int, heads: int, *, act: str, kind: str = "CLIPTextModel") -> Text:
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "projection_dim": width, "hidden_act": act}
    depth = {"num_hidden_layers": layers, "num_attention_heads": heads}
    return kind, "CLIPTextConfig", sizes | depth | {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}


PROJECTED = "CLIPTextModelWithProjection"
CLIP_L = _clip(768, 12, 12, act="quick_gelu")
CLIP_H = _clip(1024, 23, 16, act="gelu")
CLIP_G = _clip(1280, 32, 20, act="gelu", kind=PROJECTED)
T5_XXL: Text = (
    "T5EncoderModel",
    "T5Config",
    {"d_model": 4096, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "feed_forward_proj": "gated-gelu"},
)
QWEN3_4B: Text = (
    "Qwen3ForCausalLM",
    "Qwen3Config",
    {
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "tie_word_embeddings": True,
    },
)
AUTOENCODER = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
}
SIXTEEN = AUTOENCODER | {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}
FLUX_AUTOENCODER = SIXTEEN | {"scaling_factor": 0.3611, "shift_factor": 0.1159}
UNET = "UNet2DConditionModel"


@dataclass(frozen=True)
class Model:
    """A published model's shape.

    Attributes:
        pipeline: that its folder names.
        network, autoencoder: class and configuration.
        texts: its text encoders, in their order.
        flow: settings of a rectified-flow schedule; None: a variance-preserving one.
        half: the type it runs in on a GPU.
    """

    pipeline: str
    network: tuple[str, Config]
    texts: tuple[Text, ...]
    autoencoder: tuple[str, Config] = ("AutoencoderKL", AUTOENCODER)
    flow: Config | None = None
    half: torch.dtype = torch.bfloat16


MODELS = {
    "sd15": Model(
        "StableDiffusionPipeline",
        (UNET, {"sample_size": 64, "cross_attention_dim": 768}),
        (CLIP_L,),
        half=torch.float16,
    ),
    "sd21": Model(
        "StableDiffusionPipeline",
        (
            UNET,
            {
                "sample_size": 64,
                "cross_attention_dim": 1024,
                "attention_head_dim": [5, 10, 20, 20],
                "use_linear_projection": True,
            },
        ),
        (CLIP_H,),
        half=torch.float16,
    ),
    "ip2p": Model(
        "StableDiffusionInstructPix2PixPipeline",
        (UNET, {"sample_size": 64, "cross_attention_dim": 768, "in_channels": 8}),
        (CLIP_L,),
        half=torch.float16,
    ),
    "sdxl": Model(
        "StableDiffusionXLPipeline",
        (
            UNET,
            {
                "sample_size": 128,
                "block_out_channels": (320, 640, 1280),
                "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                "transformer_layers_per_block": [1, 2, 10],
                "attention_head_dim": [5, 10, 20],
                "cross_attention_dim": 2048,
                "use_linear_projection": True,
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 256,
                "projection_class_embeddings_input_dim": 2816,
            },
        ),
        (CLIP_L, CLIP_G),
        ("AutoencoderKL", AUTOENCODER | {"scaling_factor": 0.13025}),
        half=torch.float16,
    ),
    "sd35": Model(  # medium
        "StableDiffusion3Pipeline",
        (
            "SD3Transformer2DModel",
            {
                "sample_size": 128,
                "in_channels": 16,
                "out_channels": 16,
                "num_layers": 24,
                "num_attention_heads": 24,
                "caption_projection_dim": 1536,
                "pos_embed_max_size": 384,
                "dual_attention_layers": tuple(range(13)),
                "qk_norm": "rms_norm",
            },
        ),
        ((PROJECTED, *CLIP_L[1:]), CLIP_G, T5_XXL),
        ("AutoencoderKL", SIXTEEN | {"scaling_factor": 1.5305, "shift_factor": 0.0609}),
        flow={"shift": 3.0},
    ),
    "flux": Model(  # dev
        "FluxPipeline",
        ("FluxTransformer2DModel", {"guidance_embeds": True}),
        (CLIP_L, T5_XXL),
        ("AutoencoderKL", FLUX_AUTOENCODER),
        flow={"shift": 3.0, "use_dynamic_shifting": True},
    ),
    "flux2": Model(  # klein base, 4B
        "Flux2KleinPipeline",
        (
            "Flux2Transformer2DModel",
            {
                "num_layers": 5,
                "num_single_layers": 20,
                "num_attention_heads": 24,
                "joint_attention_dim": 7680,
                "guidance_embeds": False,
            },
        ),
        (QWEN3_4B,),
        ("AutoencoderKLFlux2", {}),
        flow={"shift": 3.0, "use_dynamic_shifting": True},
    ),
    "z_image": Model(
        "ZImagePipeline",
        ("ZImageTransformer2DModel", {}),
        (QWEN3_4B,),
        ("AutoencoderKL", FLUX_AUTOENCODER),
        flow={"shift": 3.0},
    ),
    "pixart": Model(
        "PixArtSigmaPipeline",
        (
            "PixArtTransformer2DModel",
            {
                "sample_size": 128,
                "interpolation_scale": 2,
                "out_channels": 8,
                "cross_attention_dim": 1152,
                "caption_channels": 4096,
                "use_additional_conditions": False,
            },
        ),
        (T5_XXL,),
        ("AutoencoderKL", AUTOENCODER | {"scaling_factor": 0.13025}),
    ),
}


def full_size_parts(name: str, *, dtype: torch.dtype, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The parts of a model of MODELS as its pipeline calls them, with random weights."""
    model = MODELS[name]
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            kind, config = model.network
            parts = {"unet" if kind == UNET else "transformer": getattr(diffusers, kind)(**config)}
            kind, config = model.autoencoder
            parts["vae"] = getattr(diffusers, kind)(**config)
            for i, (kind, config_kind, config) in enumerate(model.texts):
                behind = f"_{i + 1}" if i else ""
                parts[f"text_encoder{behind}"] = getattr(transformers, kind)(
                    getattr(transformers, config_kind)(**config)
                )
                parts[f"tokenizer{behind}"] = _clip_tokenizer() if "CLIP" in kind else _letter_tokenizer()
    finally:
        torch.set_default_dtype(default)
    flow = model.flow
    parts["scheduler"] = (
        _vp_scheduler() if flow is None else diffusers.FlowMatchEulerDiscreteScheduler(**flow)
    )
    return parts


def full_size_prior(
    name: str, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None, **settings: Any
) -> DiffusersPrior:
    """A model of MODELS with random weights as a prior; `dtype` None takes its own half precision."""
    dtype = dtype or MODELS[name].half
    family = PIPELINES[MODELS[name].pipeline]
    module, _, adapter = family.adapter.partition(":")
    parts = full_size_parts(name, dtype=dtype, device=device)
    own = {"name": f"{name} (random weights)", "device": device, "dtype": dtype, "freeu": family.freeu}
    return getattr(import_module(module), adapter)(**parts, **own | settings)


def save_full_size(name: str, folder: str | Path, *, dtype: torch.dtype, variant: str | None = None) -> Path:
    """Write a model of MODELS with random weights as a folder in diffusers format, in a type and under a variant."""
    parts = full_size_parts(name, dtype=dtype)
    pipeline = MODELS[name].pipeline
    checker = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    extra = checker if PIPELINES[pipeline].name == "sd" else {}
    getattr(diffusers, pipeline)(**parts, **extra).save_pretrained(folder, variant=variant)
    return Path(folder)
