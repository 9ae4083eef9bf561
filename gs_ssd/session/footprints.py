"""What a model takes of a GPU's memory, and the settings that lower it.

The numbers are counted from the published configurations on the meta device, with attention as fused kernels do it
(`tests/diffusion/footprint.py`); none was measured on a card. Nothing here imports torch: a prediction costs no time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from gs_ssd.errors import UserError

RUNTIME = 0.8  # GB of CUDA's context, the libraries' workspaces and unused parts of blocks: an estimate


@dataclass(frozen=True)
class Footprint:
    """Of a model in half precision, GB.

    Attributes:
        network, text: their weights.
        predict: activations of one view of 512 x 512 pixels in the four predictions of a step of SSD.
        side: pixels that it was trained at.
        taesd: whether there is a tiny autoencoder for it.
    """

    network: float
    text: float
    predict: float
    side: int = 1024
    taesd: bool = True


FOOTPRINTS = {
    "sd15": Footprint(1.72, 0.25, 0.27, side=512),
    "sd21": Footprint(1.73, 0.68, 0.27, side=512),
    "ip2p": Footprint(1.72, 0.25, 0.27, side=512),
    "sdxl": Footprint(5.14, 1.64, 0.17),
    "sd35": Footprint(4.49, 11.16, 0.20),
    "flux": Footprint(23.80, 9.77, 0.66),
    "flux2": Footprint(7.75, 8.05, 0.84, taesd=False),
    "z_image": Footprint(12.31, 8.05, 0.52),
    "pixart": Footprint(1.22, 9.52, 0.126, taesd=False),
}
# What has the shape of another: distilled models, and folders, of which only the family is known.
SHAPES = {
    "lcm": "sd15",
    "sd": "sd21",
    "sd_turbo": "sd21",
    "sdxl_turbo": "sdxl",
    "sd3": "sd35",
}
# An autoencoder's weights in float32, and its activations for one view of 512 x 512 pixels there and back; TAESD's.
AUTOENCODER, ENCODE, ENCODE_TAESD = 0.34, 3.19, 0.49


def footprint(name: str) -> Footprint | None:
    """Of an alias or a family; None for one that was not counted."""
    return FOOTPRINTS.get(SHAPES.get(name, name))


def gpu_peak(
    model: Footprint, *, side: int, views: int = 1, settings: Collection[str] = (), again: bool = False
) -> float:
    """GB of the GPU at the peak of an edit, the prompts encoded before the network comes.

    Args:
        settings: those of `levers_of` that are in use; "diffusion.offload=none": the text encoders stay.
        again: a further edit by the same prior, whose network is there while the prompts are encoded.
    """
    used = {setting.partition("=")[0] for setting in settings}
    views = 1 if "views_per_step" in used else views
    scale = views * (side / 512) ** 2
    half = 0.5 if "diffusion.vae_dtype" in used else 1.0
    encode = ENCODE_TAESD if "diffusion.vae" in used else ENCODE * half
    held = RUNTIME + AUTOENCODER * half
    step = scale * max(encode, model.predict)
    if "diffusion.offload" in used:
        return held + model.network + model.text + step
    if again:
        return held + model.network + max(model.text, step)
    return held + max(model.text, model.network + step)


def levers_of(model: Footprint, *, views: int = 1) -> list[str]:
    """The settings that lower a model's peak, those that change the result least first."""
    vae = ["diffusion.vae_dtype=float16", *["diffusion.vae=taesd"] * model.taesd]
    return [*["views_per_step=1"] * (views > 1), *vae]


def fitting(model: Footprint, card: float, *, side: int, views: int = 1) -> list[str] | None:
    """The least settings, in the order of `levers_of`, with which a model fits a card of so many GB; None: none do."""
    for settings in accumulate(([lever] for lever in levers_of(model, views=views)), initial=[]):
        if gpu_peak(model, side=side, views=views, settings=settings) <= card:
            return settings
    return None


def check_card(name: str, model: Footprint, card: float) -> None:
    """Raise UserError where a card of so many GB can't hold what of a model must be there at once, by weights alone."""
    weights = max(model.network, model.text)
    if RUNTIME + weights > card:
        others = [other for other, known in FOOTPRINTS.items() if fitting(known, card, side=512) is not None]
        raise UserError(
            f"diffusion={name} needs {weights:.1f} GB for weights alone, and the GPU has {card:.1f} GB; "
            f"use {', '.join([*others, 'embedded'])}, or diffusion.device=cpu"
        )


def levers(prior: Mapping[str, Any], *, views: int = 1) -> list[str]:
    """The settings that lower the GPU's memory and are not in use, those that change the result least first.

    `prior` is what `DiffusionPrior.about` says, or as much of it as is known.
    """
    model = footprint(str(prior.get("family", ""))) or Footprint(0, 0, 0)
    dtype = prior.get("dtype", {})
    found = {
        "views_per_step=1": views > 1,
        "diffusion.offload=text": prior.get("offload") == "none",
        "diffusion.dtype=float16": dtype.get("network") == "float32",
        "diffusion.vae_dtype=float16": dtype.get("vae", "float32") == "float32",
        "diffusion.vae=taesd": model.taesd and not prior.get("tiny_vae", False),
    }
    return [*(name for name, helps in found.items() if helps), "a smaller resolution=", "a smaller model"]
