"""An evaluation from its settings to its table: plan the runs, do them, write what they say."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gs_ssd.errors import UserError
from gs_ssd.evaluation.captures import cases
from gs_ssd.evaluation.images import pictures, plan_pictures
from gs_ssd.evaluation.launchers import Machines
from gs_ssd.evaluation.pages import write_grid, write_pages
from gs_ssd.evaluation.queue import do
from gs_ssd.evaluation.report import Evaluation, write_results
from gs_ssd.evaluation.runs import Case, plan
from gs_ssd.evaluation.settings import check, output_folder, variants
from gs_ssd.results.contact_page import write_contact_sheet

PAUSE = 10.0  # seconds at least between two writings of unfinished results


def evaluate(cfg: DictConfig) -> int:
    """Do what is left to do and write the results; returns the exit code."""
    check(cfg)
    folder = output_folder(cfg)
    compared = variants(cfg)
    own = cfg.sample_settings if cfg.data is None else cfg.capture_settings
    steps = [] if cfg.steps is None else [f"steps={cfg.steps}"]
    common = [*cfg.settings, *own, *steps, *cfg.overrides]
    planned = _in_2d if cfg.pie_bench else _in_3d
    evaluation = planned(cfg, compared, common, folder)
    due = 0.0
    for _ in do(evaluation.runs, machines(cfg), folder=folder, label="edits"):
        if time.monotonic() > due:
            begun = time.monotonic()
            write_results(evaluation)
            due = time.monotonic() + max(PAUSE, 20 * (time.monotonic() - begun))
    text = write_results(evaluation)
    if evaluation.chosen is None:
        per_row = len(list(cfg.sweep.values())[-1]) if len(cfg.sweep) > 1 else 0
        pages = write_pages(evaluation.runs, folder, per_row=per_row)
        pages.append(write_contact_sheet(folder, [run.folder for run in evaluation.runs], title=cfg.title))
    else:
        pages = [write_grid(evaluation.runs, evaluation.chosen.items, folder)]
    print(f"{text}\nwritten to {folder}: results.json, results.md, {', '.join(page.name for page in pages)}")
    return 0


def machines(cfg: DictConfig) -> Machines:
    """What does the runs."""
    slurm: Any = OmegaConf.to_container(cfg.slurm, resolve=True)
    return Machines(cfg.launcher, cfg.jobs, cfg.gpus, slurm)


def _in_2d(
    cfg: DictConfig, compared: Mapping[str, Sequence[str]], common: Sequence[str], folder: Path
) -> Evaluation:
    chosen = pictures(cfg, compared, common)
    runs = plan_pictures(chosen, compared, common, folder=folder, seeds=cfg.seeds, shares=cfg.budgets)
    return Evaluation(cfg, runs, folder, dict.fromkeys(compared, 1.0), chosen=chosen)


def _in_3d(
    cfg: DictConfig, compared: Mapping[str, Sequence[str]], common: Sequence[str], folder: Path
) -> Evaluation:
    everything = cases(cfg)
    rates, trials = choose_rates(cfg, compared, everything, common, folder)
    grid = {variant: [rate] for variant, rate in rates.items()}
    runs = plan(
        compared,
        everything,
        rates=grid,
        common=common,
        folder=folder,
        seeds=cfg.seeds,
        measured=measured(cfg),
        shares=cfg.budgets,
    )
    return Evaluation(cfg, runs, folder, rates, trials)


def measured(cfg: DictConfig) -> dict[str, Any]:
    """What the experiment measures of a 3D edit besides its metrics."""
    return {"truth": True} if cfg.truth and cfg.data is None else {}


def choose_rates(
    cfg: DictConfig,
    compared: Mapping[str, Sequence[str]],
    everything: Sequence[Case],
    common: Sequence[str],
    folder: Path,
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """For each variant the rate whose edits have the highest mean clip_direction on the validation cases.

    With it, what every rate got there, as rows. Of several seeds the first is used.
    """
    if len(cfg.rates) == 1:
        return dict.fromkeys(compared, cfg.rates[0]), []
    scenes, prompts = cfg.validation.scenes, cfg.validation.prompts
    subset = [c for c in everything if c.scene in scenes and c.prompt in prompts] or everything[:1]
    grid = {variant: list(cfg.rates) for variant in compared}
    seeds = None if cfg.seeds is None else cfg.seeds[:1]
    runs = plan(
        compared, subset, rates=grid, common=common, folder=folder, seeds=seeds, measured=measured(cfg)
    )
    for _ in do(runs, machines(cfg), folder=folder, label="choosing rates"):
        pass
    trials = [run.row() for run in runs]
    if any(row["clip_direction"] is None for row in trials):
        raise UserError(
            "several rates need a judge to choose between them; set metrics.clip, or one of rates="
        )
    return best_rates(trials), trials


def best_rates(trials: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Each variant's rate with the highest mean clip_direction; of equals the first."""
    directions: dict[str, dict[float, list[float]]] = {}
    for trial in trials:
        by_rate = directions.setdefault(trial["variant"], {})
        by_rate.setdefault(trial["rate"], []).append(trial["clip_direction"])
    return {
        variant: max(by_rate, key=lambda rate: fmean(by_rate[rate]))
        for variant, by_rate in directions.items()
    }
