"""The adapter to diffusers: Stable Diffusion 1.x and 2.x, InstructPix2Pix, and any folder in the same format.

The only module that imports diffusers and transformers models for guidance. Everything is frozen and in evaluation
mode. The UNet and the text encoder run in half precision on CUDA; the autoencoder stays in float32, because
gradients flow through its encoder and are too small for float16 without loss scaling.
"""

from __future__ import annotations

import json
import re
import warnings
from contextlib import nullcontext
from difflib import get_close_matches
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models import Transformer2DModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from gs_ssd.diffusion.freeu import enable_freeu
from gs_ssd.diffusion.patch_autoencoder import PatchAutoencoder
from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.diffusion.schedule import NoiseSchedule
from gs_ssd.diffusion.text import TextCondition
from gs_ssd.errors import UserError

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


class DiffusersPrior(DiffusionPrior):
    """ε-predictions of a UNet2DConditionModel with a CLIP text encoder and an autoencoder.

    Args:
        unet, vae, text_encoder, tokenizer, scheduler: the parts, as diffusers loads them.
        name: how reports call the model.
        device: where it runs.
        dtype: of the UNet and the text encoder; None takes float16 on CUDA and float32 elsewhere.
        freeu: use FreeU (see `freeu.py`) for the guidances that were published with it.
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
        vocabulary: dict[str, list[str]] | None = None,
        family: str | None = None,
    ) -> None:
        self.name = name
        self.device = torch.device(device)
        dtype = dtype or (torch.float16 if self.device.type == "cuda" else torch.float32)
        self.unet = _frozen(unet, self.device, dtype)
        self.text_encoder = _frozen(text_encoder, self.device, dtype)
        self.vae = _frozen(vae, self.device, torch.float32)
        self.tokenizer = tokenizer
        self.schedule = NoiseSchedule.variance_preserving(scheduler.alphas_cumprod)
        self.prediction_type = scheduler.config.prediction_type
        if self.prediction_type not in PREDICTION_TYPES:
            raise UserError(
                f"{name} predicts {self.prediction_type!r}; supported are {', '.join(PREDICTION_TYPES)}"
            )
        self.latent_channels = vae.config.latent_channels
        self.scaling_factor = vae.config.scaling_factor
        self.vae_scale_factor = (
            2 ** (len(vae.config.block_out_channels) - 1)
            if "block_out_channels" in vae.config
            else (vae.config.patch_size)
        )
        self.resolution = unet.config.sample_size * self.vae_scale_factor
        self.takes_image = unet.config.in_channels == 2 * self.latent_channels
        self.vocabulary = vocabulary
        own = "embedded" if isinstance(vae, PatchAutoencoder) else "ip2p" if self.takes_image else "sd"
        self.family = family or own
        self.has_self_attention = any(getattr(block, "attentions", ()) for block in unet.up_blocks)
        self.freeu = freeu

    @classmethod
    def from_pretrained(
        cls,
        path: str,
        *,
        revision: str | None = None,
        offline: bool = False,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        freeu: bool = False,
        name: str | None = None,
    ) -> DiffusersPrior:
        """Load a folder or hub model in diffusers format; safetensors only, nothing is unpickled.

        Raises UserError with the model, the reason and an alternative when it can't be had.
        """
        folder = Path(path).expanduser()
        if folder.is_dir():
            _check_folder(folder)
        elif Path(path).is_absolute() or path.startswith((".", "~")) or path.count("/") != 1:
            raise UserError(f"no such model folder: {path}; give a folder in diffusers format or a hub name")
        source = str(folder) if folder.is_dir() else path
        where = {"revision": revision, "local_files_only": offline or folder.is_dir()}
        try:
            vae_config = AutoencoderKL.load_config(source, subfolder="vae", **where)
            vae_class = PatchAutoencoder if vae_config["_class_name"] == "PatchAutoencoder" else AutoencoderKL
            parts = {
                "unet": UNet2DConditionModel.from_pretrained(
                    source, subfolder="unet", use_safetensors=True, **where
                ),
                "vae": vae_class.from_pretrained(source, subfolder="vae", use_safetensors=True, **where),
                "text_encoder": CLIPTextModel.from_pretrained(
                    source, subfolder="text_encoder", use_safetensors=True, **where
                ),
                "tokenizer": CLIPTokenizer.from_pretrained(source, subfolder="tokenizer", **where),
                "scheduler": DDIMScheduler.from_pretrained(source, subfolder="scheduler", **where),
            }
        # The loaders raise many types for a bad file (safetensors, json, OS, hub, value errors), all of them input.
        except Exception as error:
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            remedy = (
                f"is it a complete diffusers folder ({', '.join(PARTS)}; safetensors)?"
                if folder.is_dir()
                else "download it once on a machine with a connection and give its folder as diffusion=<folder>, "
                "or run diffusion=embedded"
            )
            raise UserError(f"can't load the diffusion model {path}: {reason}; {remedy}") from error
        vocabulary = None
        if (folder / "vocabulary.json").is_file():
            vocabulary = json.loads((folder / "vocabulary.json").read_text())
        return cls(**parts, name=name or path, device=device, dtype=dtype, freeu=freeu, vocabulary=vocabulary)

    def encode(self, rgb: Tensor) -> Tensor:
        """The posterior mean × scaling factor (the official code samples; the mean has no extra variance)."""
        x = rgb.permute(0, 3, 1, 2).to(self.device, torch.float32) * 2 - 1
        return self.vae.encode(x).latent_dist.mode() * self.scaling_factor

    @torch.no_grad()
    def encode_condition(self, rgb: Tensor) -> Tensor:
        """InstructPix2Pix's image condition: the posterior mode, not scaled."""
        if not self.takes_image:
            return super().encode_condition(rgb)
        return self.encode(rgb) / self.scaling_factor

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        image = self.vae.decode(z.to(self.device, torch.float32) / self.scaling_factor).sample
        return (image / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)

    @torch.no_grad()
    def encode_prompt(self, prompts: list[str]) -> TextCondition:
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

    @torch.no_grad()
    def predict_noise(
        self, z_t: Tensor, t: int, text: TextCondition, image: Tensor | None = None, *, freeu: bool = False
    ) -> Tensor:
        output = self.network_output(z_t, t, text, image, freeu=freeu)
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        if self.prediction_type == "v_prediction":
            return alpha * output + sigma * z_t
        if self.prediction_type == "sample":
            return (z_t - alpha * output) / sigma
        return output

    def network_output(
        self, z_t: Tensor, t: int, text: TextCondition, image: Tensor | None = None, *, freeu: bool = False
    ) -> Tensor:
        """What the UNet itself predicts (ε, v or z), in the dtype of z_t, with its graph."""
        if self.takes_image:
            if image is None:
                raise ValueError(f"{self.name} needs an image condition")
            net_input = torch.cat([z_t, image], dim=1)
        else:
            net_input = z_t
        with enable_freeu(self.unet) if freeu and self.freeu else nullcontext():
            output = self.unet(net_input.to(self.unet.dtype), t, text.hidden.to(self.unet.dtype)).sample
        return output.to(z_t.dtype)

    def network_target(self, z: Tensor, noise: Tensor, t: int) -> Tensor:
        """What a perfect `network_output` is for the clean latents z and the drawn noise."""
        if self.prediction_type == "v_prediction":
            return self.schedule.alpha(t) * noise - self.schedule.sigma(t) * z
        return z if self.prediction_type == "sample" else noise

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

    def unknown_words(self, prompt: str) -> list[str]:
        if self.vocabulary is None:
            return []
        known = set(self.vocabulary["words"])
        return [word for word in re.findall(r"[a-z0-9]+", prompt.lower()) if word not in known]

    def nearest_words(self, word: str) -> list[str]:
        return get_close_matches(word, self.vocabulary["words"], n=3, cutoff=0.6) if self.vocabulary else []


def _frozen(module, device: torch.device, dtype: torch.dtype):
    # Module.to is torch's own: diffusers' override warns about casts that these models don't mind.
    return torch.nn.Module.to(module, device, dtype).eval().requires_grad_(False)


def _collect_self_attention(
    transformer: Transformer2DModel, features: list[Tensor]
) -> list[torch.utils.hooks.RemovableHandle]:
    """Hook the self-attentions of a transformer block so that they append their output as [B, C, h, w]."""
    size: list[int] = []

    def remember_size(module, inputs):
        size[:] = inputs[0].shape[-2:]

    def append(module, inputs, output):
        features.append(output.transpose(1, 2).unflatten(2, size))  # [B, h w, C] → [B, C, h, w]

    layers = [layer.attn1 for layer in transformer.transformer_blocks]
    return [
        transformer.register_forward_pre_hook(remember_size),
        *(attention.register_forward_hook(append) for attention in layers),
    ]


def _check_folder(folder: Path) -> None:
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if (folder / "text_encoder_2").is_dir() or (folder / "transformer").is_dir():
        raise UserError(f"{folder} is not Stable Diffusion 1.x or 2.x (SDXL, SD3 and FLUX are not supported)")
    if missing:
        raise UserError(
            f"{folder} is no diffusers model folder: {', '.join(missing)} missing; "
            f"it needs {', '.join(PARTS)}, each with its config"
        )
