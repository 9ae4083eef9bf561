"""`gs-ssd generate`: make an image from noise by score distillation, and show what its noise predictions consist of.

Writes image.png, progress.png, decomposition.png and run.json to outputs/images/generated/<prompt>/<time>/.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gs_ssd.cli.app import EXIT_NOT_FINITE, launch
from gs_ssd.cli.signals import Signals
from gs_ssd.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from gs_ssd.session.image import ImageEdit


def main(argv: Sequence[str]) -> int:
    """Make the image that the settings describe."""
    return launch(run, "generate_image", argv)


def run(cfg: DictConfig, signals: Signals) -> int:
    """One image from noise to files; returns the exit code."""
    from gs_ssd.checks import whole
    from gs_ssd.results.folder import check_output_dir, make_output_dir
    from gs_ssd.session.config import check_model, image_edit, resolved

    count = whole("strip", cfg.strip, least=1)
    check_output_dir(cfg.output_dir)  # before anything is loaded
    check_model(cfg)
    from gs_ssd.cli.progress import follow
    from gs_ssd.results.image import Strip

    edit = image_edit(cfg)
    timesteps = decomposed_timesteps(cfg, edit)
    folder = make_output_dir(cfg.output_dir, scene="images/generated", prompt=cfg.prompt.name)
    height, width = edit.before.shape[1:3]
    print(f"{edit.prompts.target!r} ({width}x{height} pixels) from noise", flush=True)
    strip = Strip(edit.image, num_steps=edit.num_steps, count=count)
    outcome = follow(edit, done=0, total=edit.num_steps, name=edit.guidance.name, signals=signals, each=strip)
    result = edit.finish()
    result.save(folder, command=sys.argv, config=resolved(cfg))
    strip.save(edit.prompts.target, folder / "progress.png")
    if timesteps:
        decompose(edit, timesteps, folder / "decomposition.png")
    pictures = [folder / "progress.png", *[folder / "decomposition.png"] * bool(timesteps)]
    print(
        f"made     {len(result.reports)} of {edit.num_steps} steps in {result.seconds:.0f} s\n"
        f"image    {folder / 'image.png'}\n"
        f"pictures {', '.join(map(str, pictures))}\n"
        f"report   {folder / 'run.json'}"
    )
    if outcome.error is not None:
        print(f"error: {outcome.error}; results are those so far", file=sys.stderr)
        return EXIT_NOT_FINITE
    return 0


def decomposed_timesteps(cfg: DictConfig, edit: ImageEdit) -> list[int]:
    """The timesteps in decomposition.png; raises UserError for what is none."""
    from omegaconf import OmegaConf

    if not OmegaConf.is_list(cfg.decomposition):
        raise UserError(
            f"decomposition={cfg.decomposition} must be a list of timesteps, such as [300], or []"
        )
    last = len(edit.prior.schedule) - 1
    asked = list(cfg.decomposition)
    bad = [t for t in asked if not isinstance(t, int) or isinstance(t, bool) or not 0 <= t <= last]
    if bad:
        raise UserError(f"decomposition={bad} must be timesteps, whole numbers from 0 to {last}")
    return asked


def decompose(edit: ImageEdit, timesteps: list[int], path: Path) -> None:
    """Write what the noise predictions at the finished image consist of."""
    from gs_ssd.guidance.base import encode_prompts
    from gs_ssd.guidance.nfsd import NEGATIVE_PROMPT
    from gs_ssd.results.image import save_decomposition

    negative = edit.prompts.negative
    # It shows δ_N for every method, so the negative prompt is NFSD's where none is given.
    text = encode_prompts(
        edit.prior,
        target=edit.prompts.target,
        source="",
        negative=NEGATIVE_PROMPT if negative is None else negative,
    )
    save_decomposition(
        edit.prior,
        edit.image.latents().detach(),
        timesteps=timesteps,
        text=text,
        generator=edit.generator,
        path=path,
    )
