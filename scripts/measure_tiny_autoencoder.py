"""How far a tiny autoencoder is from a model's own: `python scripts/measure_tiny_autoencoder.py sd15`.

Over views of `face`: the latents, and the gradient that the pixels get for one random gradient of the latents. Printed
are the relative errors |tiny - own| / |own| and the cosines, mean and standard error over the views. Both models'
weights are needed; the second argument is what `diffusion.vae` takes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gs_ssd.diffusion.adapters import use_taesd
from gs_ssd.diffusion.diffusers_prior import DiffusersPrior
from gs_ssd.diffusion.load import load_prior
from gs_ssd.errors import UserError
from gs_ssd.render import render
from gs_ssd.scene.scene import Scene
from gs_ssd.scene.views import turntable


@torch.no_grad()
def views(count: int, size: int, device: str) -> list[Tensor]:
    """Pictures [1, S, S, 3] of `face` from all around."""
    scene = Scene.sample("face")
    cameras = turntable(scene.frame, count, size=size, elevation_degrees=5.0)
    return [render(scene.gaussians, cameras[i]).rgb.to(device) for i in range(count)]


def answers(encode: Callable[[Tensor], Tensor], pictures: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Latents and the pixels' gradient of each picture [1, H, W, 3]."""
    found = []
    for number, picture in enumerate(pictures):
        pixels = picture.clone().requires_grad_()
        latents = encode(pixels)
        gradient = torch.randn(latents.shape, generator=torch.Generator().manual_seed(number))
        latents.backward(gradient.to(latents))
        assert pixels.grad is not None
        found.append((latents.detach(), pixels.grad))
    return found


def compare(own: Sequence[Tensor], tiny: Sequence[Tensor]) -> str:
    """Mean and standard error over pictures of the relative error and of the cosine."""
    error = torch.stack([(t - o).norm() / o.norm() for o, t in zip(own, tiny)])
    cosine = torch.stack([torch.cosine_similarity(t.flatten(), o.flatten(), 0) for o, t in zip(own, tiny)])
    return ", ".join(
        f"{name} {float(value.mean()):.3f} ± {float(value.std(correction=1)) / len(value) ** 0.5:.3f}"
        for name, value in (("relative error", error), ("cosine", cosine))
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="what `diffusion` takes: sd15, sdxl, a folder, ...")
    parser.add_argument(
        "tiny", nargs="?", default="taesd", help="what `diffusion.vae` takes: taesd or a folder"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--views", type=int, default=8)
    args = parser.parse_args(argv)
    try:
        prior = load_prior(args.model, device=args.device, dtype="float32")
        assert isinstance(prior, DiffusersPrior)
        pictures = views(args.views, prior.resolution, args.device)
        own = answers(prior.encode, pictures)
        use_taesd(prior, args.tiny)
    except UserError as error:
        raise SystemExit(f"error: {error}") from error
    tiny = answers(prior.encode, pictures)
    for name, k in (("latents", 0), ("pixel gradient", 1)):
        print(f"{name}: {compare([one[k] for one in own], [one[k] for one in tiny])}")


if __name__ == "__main__":
    main()
