"""results.json and results.md: one table of an evaluation's runs, in 2D and 3D."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gs_ssd.assets import DATA
from gs_ssd.evaluation import pie_report, truths
from gs_ssd.evaluation.budgets import budget_tables
from gs_ssd.evaluation.images import Pictures
from gs_ssd.evaluation.pie_metrics import COLUMNS as PIE_COLUMNS
from gs_ssd.evaluation.runs import Run
from gs_ssd.evaluation.statistics import by_variant
from gs_ssd.evaluation.tables import (
    COLUMNS,
    colour_rates,
    difference_table,
    prompt_table,
    table,
    target_lines,
    trend_lines,
    variant_table,
    without_unjudged,
)
from gs_ssd.files import atomic_path
from gs_ssd.results.manifest import environment, write_json


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated: the runs, how their rates were chosen, and the pictures, in 2D."""

    cfg: DictConfig
    runs: list[Run]
    folder: Path
    rates: Mapping[str, float]
    trials: list[dict[str, Any]] = field(default_factory=list)
    chosen: Pictures | None = None


def write_results(evaluation: Evaluation) -> str:
    """Write results.json and results.md of the runs that are finished; returns the latter's text."""
    rows = [
        run.row() | {"folder": os.path.relpath(run.folder, evaluation.folder)}
        for run in evaluation.runs
        if run.finished
    ]
    if evaluation.chosen is None and is_judge(evaluation.runs[0].config["metrics"]["clip"]):
        rows = without_unjudged(rows, evaluation.cfg.unjudged)
    every, rows = rows, [row for row in rows if row["share"] == 1]
    present = [c for c in COLUMNS if any(row.get(c) is not None for row in rows)]
    means, differences = by_variant(rows, present)
    content = {
        "experiment": OmegaConf.to_container(evaluation.cfg, resolve=True),
        "environment": environment(),
        "rates": evaluation.rates,
        "validation": evaluation.trials,
        "estimates": means,
        "differences": differences,
    }
    if evaluation.chosen is None:
        text = markdown(evaluation, rows, every)
    else:
        own = {v: [row for row in rows if row["variant"] == v] for v in means}
        content |= {
            "scales": {name: column.scale for name, column in PIE_COLUMNS.items()},
            "means": {v: pie_report.means(some) for v, some in own.items()},
            "by_category": {v: pie_report.by_category(some) for v, some in own.items()},
        }
        text = _pictures_report(evaluation.chosen, evaluation.runs, rows)
        text += "\n".join(budget_tables(every, present))
    write_json(content | {"rows": every}, evaluation.folder / "results.json")
    with atomic_path(evaluation.folder / "results.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return text


def _pictures_report(chosen: Pictures, runs: Sequence[Run], rows: list[dict[str, Any]]) -> str:
    notes = list(chosen.notes)
    sizes = {row["resolution"] for row in rows} - {512}
    if sizes:
        notes.append(f"Ours are edited and compared at {max(sizes)} pixels, the published at 512.")
    prior = runs[0].config["diffusion"]["name"]
    data = f"{chosen.source.name}, {len(chosen.items)} pictures, {prior} prior, {seeds_of(runs)}"
    return pie_report.markdown(rows, data=data, notes=notes)


def markdown(evaluation: Evaluation, rows: list[dict[str, Any]], every: Sequence[dict[str, Any]] = ()) -> str:
    """The text of a 3D evaluation; `every` are the rows with those of fewer steps."""
    cfg, trials, variants = evaluation.cfg, evaluation.trials, list(evaluation.rates)
    config = evaluation.runs[0].config
    judged = is_judge(config["metrics"]["clip"])
    columns = [c for c in cfg.columns if any(row.get(c) is not None for row in rows)] or list(cfg.columns)
    rates = colour_rates(evaluation.runs)
    lines = [f"# {cfg.title}", "", _header(evaluation, len(rows)), ""]
    lines += variant_table(rows, columns, rates, judged=judged)
    lines += ["", "± is the standard error over the scenes and prompts (of one alone: over its seeds)."]
    if differences := difference_table(rows, columns, variants, judged=judged):
        lines += ["", "Paired differences, edit by edit:", "", *differences]
    lines += budget_tables(every, columns, judged=judged)
    if cfg.published:
        lines += ["", cfg.published.note, "", *table(cfg.published.headings, cfg.published.rows)]
    if cfg.targets:
        lines += ["", *target_lines(rows, cfg.targets, variants)]
    if cfg.trends:
        lines += ["", *trend_lines(rows, cfg.trends)]
    if trials:
        lines += ["", *_trials(trials, len(cfg.rates), variants, judged)]
    for column in cfg.by_prompt:
        if any(row.get(column) is not None for row in rows):
            lines += ["", *prompt_table(rows, column, variants, judged=judged)]
    notes = [*no_judge_note(rows, config["metrics"]["clip"]), *no_truth_note(cfg), *cfg.notes]
    for note in notes:
        lines += ["", note]
    return "\n".join(lines) + "\n"


def _header(evaluation: Evaluation, finished: int) -> str:
    cfg, runs = evaluation.cfg, evaluation.runs
    config, cores = runs[0].config, os.cpu_count() or 1
    captured = any(run.config["scene"]["cameras"] for run in runs)  # and may have fewer views
    return (
        f"{finished} of {len(runs)} runs; each {config['steps']} steps of {config['views_per_step']} view(s), "
        f"timesteps {config['timesteps']['_target_'].rpartition('.')[2]}, {seeds_of(runs)}, colours' rate "
        f"the settings' × {', '.join(f'{rate:g}' for rate in cfg.rates)}; metrics over "
        f"{'up to ' * captured}{config['metrics']['views']} random views; prior {config['diffusion'].get('name')}; "
        f"{cores} cores, {cfg.jobs} process(es) of {max(cores // cfg.jobs, 1)} thread(s)."
    )


def seeds_of(runs: Sequence[Run]) -> str:
    seeds = list(dict.fromkeys(run.seed for run in runs))
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def _trials(trials: list[dict[str, Any]], count: int, variants: Sequence[str], judged: bool) -> list[str]:
    by_rate = [{**trial, "prompt": f"× {trial['rate']:g}"} for trial in trials]
    edits = len({(trial["scene"], trial["prompt"]) for trial in trials})
    return [
        f"The rate of each row is the best of {count} by mean direction on {edits} validation edits, "
        "which are also part of the table:",
        "",
        *prompt_table(by_rate, "clip_direction", variants, judged=judged),
    ]


def is_judge(clip: str | None) -> bool:
    """Whether the CLIP of the settings is the judge that ships."""
    return clip is not None and Path(clip).resolve() == (DATA / "judge").resolve()


def no_judge_note(rows: Sequence[Mapping[str, Any]], clip: str | None) -> list[str]:
    """Why there are no CLIP columns, where `rows` have none; `clip` is the judge that was asked for."""
    if not rows or any(row.get("clip_direction") is not None for row in rows):
        return []
    if clip is None:
        return ["No CLIP columns: metrics.clip names no judge."]
    return [f"No CLIP columns: {clip} can't be loaded; the runs' log.txt says why."]


def no_truth_note(cfg: DictConfig) -> list[str]:
    """Why there is no `way`, where the experiment asks for it."""
    return [truths.MISSING] if cfg.truth and cfg.data is None and not truths.available() else []
