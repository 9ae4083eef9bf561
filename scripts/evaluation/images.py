"""The 2D evaluation: methods on PIE-Bench, or on the embedded one of the sample scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from gs_ssd.benchmarks.pie_bench import load_pie_bench
from gs_ssd.benchmarks.run_2d import evaluate_pie_bench
from gs_ssd.hydra_app import pick_device
from scripts.evaluation.runs import compose_resolved


def evaluate_images(
    cfg: DictConfig, compared: dict[str, list[str]], common: Sequence[str], folder: Path
) -> None:
    """Edit and measure; `compared` and `common` are settings of `edit_image.py`. Raises UserError."""
    if cfg.data is not None:
        load_pie_bench(cfg.data)  # is it there? Before a prior is loaded or downloaded
    about = ("prompt.source=a", "prompt.target=b", *common)
    configs = {
        name: compose_resolved((*about, *settings), "edit_image") for name, settings in compared.items()
    }
    first = next(iter(configs.values()))
    device = pick_device(first["device"])
    torch.manual_seed(first["seed"])
    guidances = {
        name: (lambda config=config: instantiate(config["guidance"])) for name, config in configs.items()
    }
    evaluate_pie_bench(
        cfg.data,
        guidances,
        prior=instantiate(first["diffusion"], device=device),
        timesteps=instantiate(first["timesteps"]),
        output_dir=folder,
        steps=first["steps"],
        rate=first["rate"],
        seed=first["seed"],
        settings={name: config["guidance"] for name, config in configs.items()}
        | {"diffusion": first["diffusion"], "timesteps": first["timesteps"]},
        **OmegaConf.to_container(cfg.pie_bench),  # type: ignore[arg-type]
    )
