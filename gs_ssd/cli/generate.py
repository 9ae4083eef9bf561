"""`gs-ssd generate`: make an image from noise by score distillation, and show what its noise predictions consist of.

Writes image.png, progress.png, decomposition.png, report.html and run.json to
outputs/images/generated/<prompt>/<time>/.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gs_ssd.cli.app import guarded, launch
from gs_ssd.cli.image import carry_out
from gs_ssd.cli.resume import asked, recall
from gs_ssd.cli.signals import Signals
from gs_ssd.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from gs_ssd.session.image import ImageEdit


def main(argv: Sequence[str]) -> int:
    """Make the image that the settings describe, or resume a run: `resume=<its folder>`."""
    if path := asked(argv):
        return guarded(partial(resume, path, list(argv)))
    return launch(run, "generate_image", argv)


def run(cfg: DictConfig, signals: Signals) -> int:
    """One image from noise to files; returns the exit code."""
    from gs_ssd.checks import whole
    from gs_ssd.results.folder import check_output_dir, make_output_dir
    from gs_ssd.results.hold import Hold
    from gs_ssd.session.config import check_model, image_edit

    whole("strip", cfg.strip, least=1)
    check_output_dir(cfg.output_dir)  # before anything is loaded
    with Hold() as hold:
        hold.take(cfg.output_dir)
        check_model(cfg)
        edit = image_edit(cfg)
        pictures = decomposition(cfg, edit)
        folder = make_output_dir(cfg.output_dir, scene="images/generated", prompt=cfg.prompt.name)
        hold.take(folder)
        return carry_out(edit, cfg, folder, signals, door="generate", command=sys.argv, pictures=pictures)


def resume(path: str, typed: list[str], signals: Signals) -> int:
    """Go on with a picture that was interrupted; returns the exit code."""
    from gs_ssd.results.hold import Hold
    from gs_ssd.session.config import image_edit

    kept = recall(path, typed, door="generate")
    with Hold() as hold:
        hold.take(kept.folder, "resume")
        edit = image_edit(kept.cfg)
        edit.check_and_load(kept.state, kept.about, path)
        return carry_out(
            edit,
            kept.cfg,
            kept.folder,
            signals,
            door="generate",
            command=kept.command,
            kept=kept,
            pictures=decomposition(kept.cfg, edit),
        )


def decomposition(cfg: DictConfig, edit: ImageEdit) -> dict[str, Callable[[Path], None]]:
    """The picture of what the noise predictions consist of, where timesteps for it are set."""
    timesteps = decomposed_timesteps(cfg, edit)
    return {"decomposition.png": partial(decompose, edit, timesteps)} if timesteps else {}


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
