"""ControlNets for depth: beside the prompt, the network is told how far away everything in the picture is.

The geometry of what is edited then stays near the source's, as in GaussCtrl (Wu et al., ECCV 2024). The picture of
depths is part of a TextCondition; under a condition without one the network answers alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gs_ssd.diffusion.diffusers_prior import DiffusersPrior, frozen
from gs_ssd.diffusion.stable_diffusion import UNetPrior
from gs_ssd.errors import UserError

# Published ones for depth, by the width of the prompts that the base model reads: SD 1.x, SD 2.x, SDXL.
DEPTH = {
    768: "lllyasviel/control_v11f1p_sd15_depth",
    1024: "thibaud/controlnet-sd21-depth-diffusers",
    2048: "diffusers/controlnet-depth-sdxl-1.0",
}


def use_controlnet(prior: DiffusersPrior, path: str, *, scale: float = 1.0) -> None:
    """Put a ControlNet beside the prior's UNet: "depth" takes the published one, else a folder or hub name.

    `scale` multiplies what it adds. Raises UserError where it can't be loaded or was made for another base model.
    """
    if not isinstance(prior, UNetPrior) or prior.takes_image or prior.family == "embedded":
        raise UserError(
            f"diffusion.control={path}: {prior.name} takes none; use Stable Diffusion 1.x, 2.x or XL (diffusion=sd15)"
        )
    width = prior.unet.config.cross_attention_dim
    if path == "depth":
        if width not in DEPTH:
            raise UserError(
                f"diffusion.control=depth: none is known for {prior.name}; give a folder or hub name"
            )
        path = DEPTH[width]
    net = _load(path, prior)
    own = (net.config.cross_attention_dim, net.config.in_channels, net.config.addition_embed_type)
    wanted = (width, prior.unet.config.in_channels, prior.unet.config.addition_embed_type)
    if own != wanted or tuple(net.config.block_out_channels) != tuple(prior.unet.config.block_out_channels):
        raise UserError(
            f"diffusion.control={path} was made for another base model than {prior.name} (it reads prompts of width "
            f"{own[0]}, not {width}); choose the one of its family"
        )
    prior.controlnet = frozen(net, prior.device, prior.network.dtype)
    prior.control_scale = scale
    prior.takes_depth = True


def _load(path: str, prior: UNetPrior) -> Any:
    from diffusers import ControlNetModel

    folder = Path(path).expanduser().is_dir()
    try:
        return ControlNetModel.from_pretrained(
            str(Path(path).expanduser()) if folder else path,
            local_files_only=folder,
            use_safetensors=True,
            torch_dtype=prior.network.dtype,
        )
    # As many types as there are ways to be no ControlNet, all of them input.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise UserError(
            f"diffusion.control={path} can't be loaded: {reason}; leave diffusion.control=null"
        ) from error
