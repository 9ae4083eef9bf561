"""What is put into a loaded model: a LoRA melted into its weights, a small autoencoder before it."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import torch

from gs_ssd.diffusion.diffusers_prior import DiffusersPrior, frozen
from gs_ssd.errors import UserError

# Autoencoders of a hundredth of the size, whose latents resemble those of a family's own: https://github.com/madebyollin/taesd
TAESD = {
    "sd": "taesd",
    "ip2p": "taesd",
    "sdxl": "taesdxl",
    "sd3": "taesd3",
    "flux": "taef1",
    "z_image": "taef1",
}


def fuse_lora(prior: DiffusersPrior, path: str, *, scale: float = 1.0) -> None:
    """Melt a LoRA (a folder, a safetensors file or a hub name) into the prior's weights, `scale` times.

    Raises UserError where it can't be read or was made for another base model.
    """
    pipeline: Any = getattr(prior, "pipeline", None)
    if not hasattr(pipeline, "load_lora_weights"):
        raise UserError(
            f"diffusion.lora={path}: there are no LoRAs for {prior.name}; leave diffusion.lora=null"
        )
    modules = prior.keep_weights()
    file = Path(path).expanduser()
    if os.path.isfile(file):  # False, not an error, for a name that no file can have
        source, where = str(file.parent), {"weight_name": file.name, "local_files_only": True}
    else:
        source, where = str(file) if os.path.isdir(file) else path, {"local_files_only": os.path.isdir(file)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # diffusers announces the keys of text encoders that a LoRA lacks
            pipeline.load_lora_weights(source, use_safetensors=True, **where)
    # As many types as there are ways to be no LoRA, all of them input.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        if "size mismatch" in str(error) or "shape" in reason:
            reason = "its layers are those of another base model"
        raise UserError(
            f"diffusion.lora={path} doesn't fit {prior.name}: {reason}; choose one that was made for it"
        ) from error
    if not any("lora_" in name for module in modules for name, _ in module.named_parameters()):
        raise UserError(
            f"diffusion.lora={path} has no weights for {prior.name}; choose one that was made for it"
        )
    pipeline.fuse_lora(lora_scale=scale)
    pipeline.unload_lora_weights()
    for module in modules:
        module.requires_grad_(False)


def use_taesd(prior: DiffusersPrior, path: str) -> None:
    """Encode with a tiny autoencoder: "taesd" takes the one of the prior's family, else a folder or hub name.

    Its latents are not the real ones, so it changes the method. Decoding stays with the prior's own.
    """
    from diffusers import AutoencoderTiny

    if path == "taesd":
        if prior.family not in TAESD:
            raise UserError(f"diffusion.vae=taesd: there is none for {prior.name}; leave diffusion.vae=null")
        path = f"madebyollin/{TAESD[prior.family]}"
    try:
        small = AutoencoderTiny.from_pretrained(
            path, local_files_only=Path(path).is_dir(), use_safetensors=True
        )
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise UserError(
            f"diffusion.vae={path} can't be loaded: {reason}; leave diffusion.vae=null"
        ) from error
    if small.config.latent_channels * prior.patch**2 != prior.latent_channels:
        raise UserError(
            f"diffusion.vae={path} has {small.config.latent_channels} latent channels, and {prior.name} "
            f"{prior.latent_channels // prior.patch**2}; choose the one of its family"
        )
    prior.small_encoder = frozen(small, prior.device, torch.float32)
