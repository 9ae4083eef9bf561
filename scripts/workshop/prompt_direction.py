"""What a prior knows without an edit: where a change of prompt points, against the true change of the sample heads.

    python scripts/workshop/prompt_direction.py [--prior FOLDER] [--scenes face elder woman]

For each costume and timestep, over 12 views and one noise, from the noised source: d = x(z_t, y) - x(z_t, y_source)
and truth = z_truth - z_source. Printed are the cosine of the two and the gain <d, truth> / |truth|^2, where 1 arrives
in one step.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gs_ssd.diffusion.load import load_prior
from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.evaluation.truths import ELEVATION, FOV, SIZE, VIEWS, truths
from gs_ssd.render import render
from gs_ssd.scene.cameras import Cameras
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.scene import Scene
from gs_ssd.scene.views import turntable
from gs_ssd.session.config import compose

COSTUMES = ("spiderman", "batman", "clown", "joker", "marble", "zombie", "skull", "gold")
TIMES = (100, 200, 400, 600, 800)


def latents(prior: DiffusionPrior, gaussians: Gaussians, cameras: Cameras, background: Tensor) -> Tensor:
    return torch.cat(
        [prior.encode(render(gaussians, cameras[i], background=background).rgb) for i in range(VIEWS)]
    )


def directions(
    prior: DiffusionPrior, source: Tensor, truth: Tensor, words: tuple[str, str]
) -> list[tuple[float, float]]:
    """(cosine, gain) at each of TIMES; latents [V, C, h, w]; words: the source's prompt and the target's."""
    found = []
    text = prior.encode_prompt(list(words))
    for t in TIMES:
        noise = torch.randn(source.shape, generator=torch.Generator().manual_seed(0))
        alpha, sigma = prior.schedule.alpha(t), prior.schedule.sigma(t)
        noised = alpha * source + sigma * noise
        eps = [
            prior.predict_noise(noised, t, text.map(lambda x, i=i: x[i : i + 1].expand(VIEWS, *x.shape[1:])))
            for i in (0, 1)
        ]
        turn, true = -sigma / alpha * (eps[1] - eps[0]), truth - source
        cosine = torch.nn.functional.cosine_similarity(turn.flatten(), true.flatten(), dim=0).item()
        found.append((cosine, ((turn * true).sum() / true.pow(2).sum()).item()))
    return found


def line(name: str, values: list[tuple[float, float]]) -> str:
    return f"{name:18s}" + "  ".join(
        f"t {t} {cosine:+.2f} ({gain:.2f})" for t, (cosine, gain) in zip(TIMES, values)
    )


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prior", default="embedded", help="a name or a folder")
    parser.add_argument("--scenes", nargs="*", default=["face", "elder", "woman"])
    args = parser.parse_args()
    prior = load_prior(args.prior, device="cpu", offline=True)
    background = torch.tensor([0.6, 0.63, 0.67])
    everything = []
    for name in args.scenes:
        scene = Scene.sample(name)
        cameras = turntable(
            scene.frame, VIEWS, size=SIZE, elevation_degrees=ELEVATION,
            front_azimuth_degrees=scene.front_azimuth_degrees, fov_degrees=FOV,
        )  # fmt: skip
        source, found = latents(prior, scene.gaussians, cameras, background), []
        for prompt in COSTUMES:
            words = compose([f"scene={name}", f"prompt={prompt}"]).prompt
            truth = latents(prior, truths(name, prompt)[0], cameras, background)
            found.append(directions(prior, source, truth, (words.source, words.target)))
            print(line(f"{name} {prompt}", found[-1]), flush=True)
        everything += found
        print(line(f"{name} mean", _mean(found)))
    print(line("all", _mean(everything)))


def _mean(rows: list[list[tuple[float, float]]]) -> list[tuple[float, float]]:
    return [tuple(sum(v) / len(v) for v in zip(*column)) for column in zip(*rows)]


if __name__ == "__main__":
    main()
