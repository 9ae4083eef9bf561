"""The 2D evaluation: methods on PIE-Bench, or on the embedded one of the sample scenes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from gs_ssd.assets import CONFIGS
from gs_ssd.checks import number, whole
from gs_ssd.errors import UserError
from gs_ssd.evaluation.pie_bench import load_pie_bench
from gs_ssd.evaluation.run_2d import evaluate_pie_bench
from gs_ssd.evaluation.runs import compose_resolved
from gs_ssd.session.config import build, pick_device

# What pie_bench's `auto` stands for with `data`, and without: there the judge measures, and nothing is downloaded.
PUBLISHED = {"clip": "openai/clip-vit-large-patch14", "structure": "facebook/dino-vitb8", "lpips": True}
OFFLINE = {"clip": None, "structure": None, "lpips": False}
# Settings of edit_image.py.
USED = ("diffusion", "guidance", "timesteps", "steps", "rate", "seed", "device")
ONLY_3D = ("scenes", "prompts", "rates", "validation", "captures", "jobs")


def evaluate_images(
    cfg: DictConfig, compared: Mapping[str, Sequence[str]], common: Sequence[str], folder: Path
) -> None:
    """Edit and measure; `compared` and `common` are settings of `edit_image.py`. Raises UserError."""
    how = measures(cfg)
    about = ("prompt.source=a", "prompt.target=b", *common)
    configs = {
        name: OmegaConf.create(compose_resolved((*about, *settings), "edit_image"))
        for name, settings in compared.items()
    }
    check_use(cfg, compared, common)
    first = next(iter(configs.values()))
    whole("steps", first.steps, least=1)
    whole("seed", first.seed, least=0)
    if first.rate is not None:
        number("rate", first.rate, above=0)
    device = pick_device(first.device)
    data = None if cfg.data is None else str(cfg.data)
    if data is not None:
        load_pie_bench(data)  # is it there? Before a prior is loaded or downloaded
    torch.manual_seed(first.seed)
    evaluate_pie_bench(
        data,
        {name: (lambda config=config: build(config, "guidance")) for name, config in configs.items()},
        prior=instantiate(first.diffusion, device=device),
        timesteps=build(first, "timesteps"),
        output_dir=folder,
        steps=first.steps,
        rate=first.rate,
        seed=first.seed,
        settings={name: OmegaConf.to_container(config.guidance) for name, config in configs.items()}
        | {name: OmegaConf.to_container(first[name]) for name in ("diffusion", "timesteps")},
        **how,
    )


def measures(cfg: DictConfig) -> dict[str, Any]:
    """How PIE-Bench is measured, as `evaluate_pie_bench` takes it; raises UserError for values it can't take."""
    asked, known = cfg.pie_bench, ("limit", *PUBLISHED, "compat")
    if not isinstance(asked, DictConfig) or set(asked) != set(known):
        raise UserError(f"pie_bench={asked} is not {', '.join(known)}, which experiment=table2 has")
    if asked.limit is not None:
        whole("pie_bench.limit", asked.limit, least=1)
    for name in ("lpips", "compat"):
        if asked[name] not in ("auto", True, False):
            raise UserError(f"pie_bench.{name}={asked[name]} is none of auto, true, false")
    auto = OFFLINE if cfg.data is None else PUBLISHED
    how = {name: auto.get(name) if value == "auto" else value for name, value in asked.items()}
    if asked.compat == "auto":
        how["compat"] = how["structure"] == PUBLISHED["structure"]
    return how


def check_use(cfg: DictConfig, compared: Mapping[str, Sequence[str]], common: Sequence[str]) -> None:
    """Raise UserError for what a 2D experiment would ignore."""
    defaults = OmegaConf.load(CONFIGS / "evaluate" / "evaluate.yaml")
    for name in ONLY_3D:
        if cfg[name] != defaults[name]:
            raise UserError(
                f"{name}={cfg[name]} is for 3D; a 2D experiment edits its benchmark's pictures one by one"
            )
    for setting in common:
        name = re.split(r"[.=]", setting.lstrip("+~"))[0]
        if name not in USED:
            raise UserError(f"{setting} is of no use in a 2D experiment, which takes: {', '.join(USED)}")
    for variant, settings in compared.items():
        if bad := [setting for setting in settings if not re.match(r"\+*guidance[.=]", setting)]:
            raise UserError(f"variant {variant} sets {bad[0]}; in 2D a variant can only set its guidance")
