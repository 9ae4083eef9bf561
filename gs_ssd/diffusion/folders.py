"""What a model folder holds, read from its small JSON files: before any weight, and without diffusers.

A folder in diffusers format has a `model_index.json` that names a pipeline and the class of each part, and a folder per
part with a config and weights. Weights may be full (`model.safetensors`) or half precision (`model.fp16.safetensors`),
in one file or in shards with an index. Pickled weights are never opened.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from gs_ssd.errors import UserError

WEIGHTS = {"diffusers": "diffusion_pytorch_model", "transformers": "model"}
UNET_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
TWO_TEXTS = ("text_encoder_2", "tokenizer_2")
TRANSFORMER_PARTS = ("transformer", *UNET_PARTS[1:])


@dataclass(frozen=True)
class Family:
    """A kind of model: its adapter as "module:class", and the parts it needs of a pipeline."""

    name: str
    adapter: str
    parts: tuple[str, ...]
    optional: tuple[str, ...] = ()
    freeu: bool = False


SD = Family("sd", "gs_ssd.diffusion.stable_diffusion:StableDiffusionPrior", UNET_PARTS, freeu=True)
PIPELINES = {
    "StableDiffusionPipeline": SD,
    "StableDiffusionInstructPix2PixPipeline": SD,
    "LatentConsistencyModelPipeline": SD,
    "StableDiffusionXLPipeline": Family("sdxl", "gs_ssd.diffusion.sdxl:SDXLPrior", (*UNET_PARTS, *TWO_TEXTS)),
    "StableDiffusion3Pipeline": Family(
        "sd3",
        "gs_ssd.diffusion.sd3:SD3Prior",
        (*TRANSFORMER_PARTS, *TWO_TEXTS),
        ("text_encoder_3", "tokenizer_3"),
    ),
    "FluxPipeline": Family("flux", "gs_ssd.diffusion.flux:FluxPrior", (*TRANSFORMER_PARTS, *TWO_TEXTS)),
    "Flux2KleinPipeline": Family("flux2", "gs_ssd.diffusion.flux2:Flux2KleinPrior", TRANSFORMER_PARTS),
    "ZImagePipeline": Family("z_image", "gs_ssd.diffusion.z_image:ZImagePrior", TRANSFORMER_PARTS),
    "PixArtSigmaPipeline": Family("pixart", "gs_ssd.diffusion.pixart:PixArtPrior", TRANSFORMER_PARTS),
}
SUPPORTED = (
    "Stable Diffusion 1.x, 2.x, XL, 3 and 3.5, InstructPix2Pix, FLUX.1, FLUX.2 klein, Z-Image, PixArt-Sigma"
)
# The folders that a model without a model_index.json must have: Stable Diffusion's, as trainers write them.
CLASSES = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "scheduler": ("diffusers", "DDIMScheduler"),
}


@dataclass(frozen=True)
class ModelFolder:
    """A folder that holds a supported model; `recognise` makes it.

    Attributes:
        path: the folder.
        family: what it is.
        parts: the (library, class) of each part.
        index: what model_index.json says, empty where there is none.
    """

    path: Path
    family: Family
    parts: dict[str, tuple[str, str]]
    index: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The family, more closely: its image condition and its autoencoder tell ip2p and embedded from sd."""
        if self.family is SD and self.parts["vae"][1] == "PatchAutoencoder":
            return "embedded"
        channels, latent = (
            self.config("unet").get("in_channels", 4),
            self.config("vae").get("latent_channels", 4),
        )
        return "ip2p" if self.family is SD and channels == 2 * latent else self.family.name

    @property
    def revision(self) -> str | None:
        """The hub's commit that it is, for a folder of the hub's cache."""
        return self.path.name if self.path.parent.name == "snapshots" else None

    def config(self, part: str) -> dict[str, Any]:
        """The configuration of a part; empty for a part without one."""
        name = {"scheduler": "scheduler_config.json"}.get(part, "config.json")
        path = self.path / part / name
        return _json(path) if path.is_file() else {}

    @cached_property
    def few_step(self) -> str:
        """ "lcm" or "turbo" for models distilled to few steps, else ""."""
        scheduler = self.config("scheduler")
        if scheduler.get("_class_name") == "LCMScheduler" or self.index.get("_class_name", "").startswith(
            "Latent"
        ):
            return "lcm"
        # Only models distilled to few steps sample with Euler's method and trailing timesteps: Turbo, Lightning.
        euler = str(scheduler.get("_class_name", "")).startswith("Euler")
        return "turbo" if euler and scheduler.get("timestep_spacing") == "trailing" else ""

    def weights(self, part: str, *, half: bool) -> tuple[str | None, list[Path]]:
        """(variant, files) of a part's weights: the half-precision ones first if `half`, else the full ones.

        Raises UserError where no safetensors file is there.
        """
        stem = WEIGHTS.get(self.parts[part][0], WEIGHTS["diffusers"])
        for variant in ("fp16", None) if half else (None, "fp16"):
            infix = f".{variant}" if variant else ""
            single = self.path / part / f"{stem}{infix}.safetensors"
            if single.is_file():
                return variant, [single]
            indices = (f"{stem}.safetensors.index{infix}.json", f"{stem}{infix}.safetensors.index.json")
            for index in (self.path / part / name for name in indices):
                if index.is_file():
                    names = sorted(set(_json(index)["weight_map"].values()))
                    return variant, [self.path / part / name for name in names]
        others = sorted(
            p.name for p in (self.path / part).glob("*.*") if p.suffix in (".bin", ".msgpack", ".onnx")
        )
        only = f"only {others[0] if others else ''}; save it again with safe_serialization=True"
        found = only if others else "none; is it a complete diffusers folder?"
        raise UserError(
            f"can't load the diffusion model {self.path}: {part} needs weights as safetensors "
            f"({stem}.safetensors or {stem}.fp16.safetensors), found {found}"
        )

    def models(self) -> list[str]:
        """The parts that have weights."""
        return [part for part in self.parts if not part.startswith(("tokenizer", "scheduler"))]


def recognise(path: Path, *, weights: bool = True) -> ModelFolder:
    """The supported model in a folder; `weights=False` looks at its configurations only.

    Raises UserError with what the folder holds instead, and what would work.
    """
    if path.is_file():
        raise UserError(
            f"{path} is a single file; give a folder in diffusers format "
            "(diffusers' StableDiffusionPipeline.from_single_file(...).save_pretrained(...) makes one)"
        )
    if (path / "model_index.json").is_file():
        index = _json(path / "model_index.json")
        pipeline = index.get("_class_name")
        if pipeline not in PIPELINES:
            raise UserError(f"{path} holds a {pipeline}, which is not supported; supported are {SUPPORTED}")
        family = PIPELINES[pipeline]
        parts = _parts(path, family, index)
    else:
        index, family, parts = {}, SD, CLASSES
        _check_unnamed(path)
    model = ModelFolder(path, family, parts, index)
    missing = [part for part in parts if not (path / part).is_dir()]
    if missing:
        raise UserError(
            f"{path} is no diffusers model folder: {', '.join(missing)} missing; "
            f"it needs {', '.join(parts)}, each with its config"
        )
    for part in model.models():
        if not (path / part / "config.json").is_file():
            raise UserError(f"{path} is no diffusers model folder: {part}/config.json is missing")
    _check_unet(model)
    if weights:
        for part in model.models():
            for file in model.weights(part, half=False)[1]:
                _check_weights(file)
    return model


def _parts(path: Path, family: Family, index: dict[str, Any]) -> dict[str, tuple[str, str]]:
    parts: dict[str, tuple[str, str]] = {}
    for part in (*family.parts, *family.optional):
        entry = index.get(part)
        if isinstance(entry, list) and len(entry) == 2 and all(isinstance(x, str) for x in entry):
            parts[part] = (entry[0].partition(".")[0], entry[1])
        elif part in family.parts:
            raise UserError(
                f"{path} holds a {index['_class_name']} without {part}, which it needs; "
                f"its parts are {', '.join(family.parts)}"
            )
    return parts


def _check_unnamed(path: Path) -> None:
    """Name what a folder without a model_index.json is, unless it has Stable Diffusion's parts."""
    if all((path / part).is_dir() for part in CLASSES):
        if (path / "text_encoder_2").is_dir() or (path / "transformer").is_dir():
            raise UserError(
                f"{path} has no model_index.json, which tells larger models than Stable Diffusion apart"
            )
        return
    names = {child.name for child in path.iterdir()}
    if names & {"adapter_config.json", "pytorch_lora_weights.safetensors"}:
        raise UserError(f"{path} holds a LoRA; choose its base model and give it as diffusion.lora={path}")
    if "config.json" in names:
        config = _json(path / "config.json")
        kind = config.get("_class_name") or (config.get("architectures") or ["a config.json"])[0]
        raise UserError(f"{path} holds one model ({kind}), not a pipeline; supported are {SUPPORTED}")
    single = sorted(name for name in names if name.endswith((".ckpt", ".safetensors", ".gguf")))
    if single and not names & set(CLASSES):
        raise UserError(
            f"{path} holds {single[0]}, a single file; a folder in diffusers format has parts in folders"
        )
    missing = [part for part in CLASSES if part not in names]
    raise UserError(
        f"{path} is no diffusers model folder: {', '.join(missing)} missing; "
        f"it needs {', '.join(CLASSES)}, each with its config"
    )


def _check_unet(model: ModelFolder) -> None:
    """Refuse UNets that need another input than latents, a prompt and InstructPix2Pix's image."""
    if "unet" not in model.parts:
        return
    channels, latent = (
        model.config("unet").get("in_channels", 4),
        model.config("vae").get("latent_channels", 4),
    )
    kinds = {latent + 1: "a depth", 2 * latent + 1: "an inpainting", latent + 3: "an upscaling"}
    allowed = (latent, 2 * latent) if model.family is SD else (latent,)
    if channels not in allowed:
        kind = kinds.get(channels, f"a {channels}-channel")
        raise UserError(
            f"{model.path} holds {kind} model (its UNet has {channels} input channels); use its base model"
        )
    added = model.config("unet").get("addition_embed_type")
    if model.family is SD and added == "text_time":
        raise UserError(
            f"{model.path} has SDXL's UNet; its model_index.json must name a StableDiffusionXLPipeline"
        )


def _check_weights(file: Path) -> None:
    """Refuse a safetensors file that is not there or not whole, by its header alone."""
    broken = (
        f"can't load the diffusion model: {file} is {{}}; is it a complete diffusers folder? Copy it again"
    )
    if not file.is_file():
        raise UserError(broken.format("missing"))
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > size:
                raise ValueError
            header = json.loads(stream.read(length))
        end = max((t["data_offsets"][1] for name, t in header.items() if name != "__metadata__"), default=0)
    except (ValueError, struct.error, KeyError, TypeError, AttributeError) as error:
        raise UserError(broken.format("no safetensors file")) from error
    if 8 + length + end > size:
        raise UserError(broken.format(f"cut off at {size} of {8 + length + end} bytes"))


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} can't be read as JSON: {str(error)[:100]}; copy it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object; copy it again")
    return content
