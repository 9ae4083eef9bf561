"""Run scenes × prompts × methods and put their metrics side by side.

    python scripts/evaluate.py experiment=embedded_benchmark guidance=all jobs=2
    python scripts/evaluate.py experiment=embedded_benchmark guidance=[ssd,dds] scenes=[face] prompts=[clown] steps=60
    python scripts/evaluate.py experiment=table1 data=my_captures jobs=1
    python scripts/evaluate.py experiment=table2 data=PIE-Bench_v1 pie_bench.limit=50
    python scripts/evaluate.py experiment=fig5

Values are YAML. Experiments lie in configs/evaluate/experiment, every setting in configs/evaluate/evaluate.yaml.
Writes results.json, results.md and pages of pictures to outputs/evaluate/<experiment>, or output_dir. The
same command again goes on where an earlier one stopped.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # see train.py

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from gs_ssd.assets import CONFIGS
from gs_ssd.checks import whole
from gs_ssd.cli.app import answer
from gs_ssd.errors import UserError
from gs_ssd.evaluation.images import evaluate_images
from gs_ssd.evaluation.runs import Case, Run, do, plan
from gs_ssd.evaluation.tables import (
    colour_rates,
    prompt_table,
    table,
    target_lines,
    trend_lines,
    variant_table,
    write_pages,
)
from gs_ssd.files import atomic_path
from gs_ssd.results.contact_page import write_contact_sheet
from gs_ssd.results.manifest import environment, write_json
from gs_ssd.scene.datasets import load_cameras
from gs_ssd.session.shorthands import dotted_keys, explain, options

FOLDER = CONFIGS / "evaluate"
# What captures hold that is no splat: the trainers' inputs, and COLMAP's dense reconstructions.
POINT_CLOUDS = (
    *("points3D.ply", "input.ply", "sparse_pc.ply"),
    *("fused.ply", "meshed-poisson.ply", "meshed-delaunay.ply"),
)
CAPTURE_COLUMNS = ("scene", "prompt", "source", "target")


def composed(arguments: Sequence[str]) -> DictConfig:
    """The settings: evaluate.yaml, the experiment's file over it, `arguments` over both; raises UserError."""
    base = OmegaConf.load(FOLDER / "evaluate.yaml")
    assert isinstance(base, DictConfig)
    for argument in arguments:
        if "=" not in argument:
            raise UserError(f"{argument!r} is no setting; settings are name=value, such as guidance=all")
    try:
        typed = OmegaConf.from_dotlist(list(arguments))
        known = sorted(path.stem for path in (FOLDER / "experiment").glob("*.yaml"))
        name = typed.get("experiment", base.experiment)
        if name not in known:
            raise UserError(f"no experiment is called {name!r}; there are: {', '.join(known)}")
        OmegaConf.set_struct(base, True)
        for group in ("methods", "variants", "sweep"):
            OmegaConf.set_struct(base[group], False)
        return OmegaConf.merge(base, OmegaConf.load(FOLDER / "experiment" / f"{name}.yaml"), typed)  # type: ignore[return-value]
    except (OmegaConfBaseException, YAMLError) as error:
        raise UserError(explain(error, dotted_keys(OmegaConf.to_container(base)))) from error  # type: ignore[arg-type]


def variants(cfg: DictConfig) -> dict[str, list[str]]:
    """What is compared, by name, as settings of `train.py`; `guidance` picks from them."""
    if cfg.sweep:
        names, values = [key.rpartition(".")[2] for key in cfg.sweep], cfg.sweep.values()
        known = {
            " ".join(f"{name}={value:g}" for name, value in zip(names, point)): [
                f"{key}={value}" for key, value in zip(cfg.sweep, point)
            ]
            for point in itertools.product(*values)
        }
    else:
        known = {name: list(settings) for name, settings in (cfg.variants or cfg.methods).items()}
    if cfg.guidance == "all":
        return known
    chosen = list(cfg.guidance) if isinstance(cfg.guidance, ListConfig) else [cfg.guidance]
    if not (cfg.sweep or cfg.variants):
        known |= {name: [f"guidance={name}"] for name in options("guidance") if name not in known}
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        raise UserError(f"guidance={','.join(map(str, unknown))} is none of: all, {', '.join(known)}")
    return {name: known[name] for name in chosen}


def cases(cfg: DictConfig) -> list[Case]:
    """The scenes and prompts: those of `data`, where a folder is given, else the sample scenes."""
    if cfg.data is not None:
        check_captures(cfg.captures)
        return captured_cases(Path(str(cfg.data)).expanduser(), cfg.captures)
    for group, names in (("scene", cfg.scenes), ("prompt", cfg.prompts)):
        if not isinstance(names, ListConfig) or not names:
            raise UserError(f"{group}s={names} must be a list, such as {group}s=[{options(group)[0]}]")
    return [Case(s, p, (f"scene={s}", f"prompt={p}")) for s in cfg.scenes for p in cfg.prompts]


def check_captures(captures: Any) -> None:
    """Raise UserError unless `captures` lists entries of four texts, with prompts that differ."""
    if not isinstance(captures, ListConfig) or not captures:
        raise UserError(f"captures={captures} must be a list of {{{', '.join(CAPTURE_COLUMNS)}}}")
    for number, capture in enumerate(captures, start=1):
        name = f"captures, entry {number} ({capture})"
        if not isinstance(capture, DictConfig):
            raise UserError(f"{name} must have {', '.join(CAPTURE_COLUMNS)}")
        for column in CAPTURE_COLUMNS:
            value = capture.get(column)
            if not isinstance(value, str) or not value.strip():
                wrong = "is missing" if value is None else f"is {value!r}"
                raise UserError(f"{name}: {column} {wrong}, expected a text")
        if capture.source.strip().lower() == capture.target.strip().lower():
            raise UserError(f"{name}: target equals source, so there is nothing to edit; change one")


def captured_cases(data: Path, captures: Iterable[DictConfig]) -> list[Case]:
    """The listed captures that lie in `data`: folders of the scene's name with a splat and its cameras."""
    if not data.is_dir():
        raise UserError(f"data={data}: no such folder; it should hold a folder per scene")
    found = []
    for capture in captures:
        folder = data / capture.scene
        if not folder.is_dir():
            continue
        load_cameras(folder)  # are they there? Before anything is edited
        settings = (
            f"scene.path={find_splat(folder)}",
            f"scene.cameras={folder}",
            f"prompt.source={capture.source}",
            f"prompt.target={capture.target}",
            f"scene.name={capture.scene}",
            f"prompt.name={capture.prompt}",
        )
        found.append(Case(capture.scene, capture.prompt, settings))
    if not found:
        names = ", ".join(dict.fromkeys(capture.scene for capture in captures))
        raise UserError(f"data={data} holds none of this experiment's scenes; it should have folders {names}")
    return found


def find_splat(folder: Path) -> Path:
    """The splat in or under a capture's folder; of point_cloud/iteration_* the longest trained. Raises UserError."""
    files = [file for kind in (".ply", ".splat", ".spz") for file in folder.rglob(f"*{kind}")]
    splats = [file for file in files if file.name not in POINT_CLOUDS]
    if not splats:
        raise UserError(f"{folder}: holds no splat (.ply, .splat or .spz); train one and put it there")
    return max(splats, key=lambda file: [int(n) for n in re.findall(r"\d+", str(file.relative_to(folder)))])


def evaluate(cfg: DictConfig) -> int:
    whole("jobs", cfg.jobs, least=1)
    if cfg.steps is not None:
        whole("steps", cfg.steps, least=1)
    if not cfg.rates or not all(isinstance(rate, int | float) and rate > 0 for rate in cfg.rates):
        raise UserError(f"rates={cfg.rates} must be numbers above 0, such as rates=[0.5,1,2]")
    if not isinstance(cfg.overrides, ListConfig) or not all(isinstance(o, str) for o in cfg.overrides):
        raise UserError(f"overrides={cfg.overrides} must be a list of settings, such as overrides=[seed=1]")
    folder = Path(str(cfg.output_dir or Path("outputs") / "evaluate" / cfg.experiment)).expanduser()
    compared = variants(cfg)
    own = cfg.sample_settings if cfg.data is None else cfg.capture_settings
    steps = [] if cfg.steps is None else [f"steps={cfg.steps}"]
    common = [*cfg.settings, *own, *steps, *cfg.overrides]
    if cfg.pie_bench:
        evaluate_images(cfg, compared, common, folder)
        return 0
    everything = cases(cfg)
    rates, trials = choose_rates(cfg, compared, everything, common, folder)
    grid = {variant: [rate] for variant, rate in rates.items()}
    runs = plan(compared, everything, rates=grid, common=common, folder=folder)
    for _ in do(runs, jobs=cfg.jobs, label="edits"):
        write_results(cfg, runs, rates, trials, folder)
    text = write_results(cfg, runs, rates, trials, folder)
    per_row = len(list(cfg.sweep.values())[-1]) if len(cfg.sweep) > 1 else 0
    pages = write_pages(runs, folder, per_row=per_row)
    pages.append(write_contact_sheet(folder, [run.folder for run in runs], title=cfg.title))
    print(f"{text}\nwritten to {folder}: results.json, results.md, {', '.join(page.name for page in pages)}")
    return 0


def choose_rates(
    cfg: DictConfig,
    compared: dict[str, list[str]],
    everything: list[Case],
    common: list[str],
    folder: Path,
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """For each variant the rate whose edits have the highest mean clip_direction on the validation cases.

    With it, what every rate got there, as rows.
    """
    if len(cfg.rates) == 1:
        return dict.fromkeys(compared, cfg.rates[0]), []
    scenes, prompts = cfg.validation.scenes, cfg.validation.prompts
    subset = [c for c in everything if c.scene in scenes and c.prompt in prompts] or everything[:1]
    grid = {variant: list(cfg.rates) for variant in compared}
    runs = plan(compared, subset, rates=grid, common=common, folder=folder)
    for _ in do(runs, jobs=cfg.jobs, label="choosing rates"):
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


def write_results(
    cfg: DictConfig, runs: list[Run], rates: dict[str, float], trials: list[dict[str, Any]], folder: Path
) -> str:
    """results.json and results.md of the runs that are finished; returns the latter's text."""
    rows = [run.row() for run in runs if run.finished]
    content = {
        "experiment": OmegaConf.to_container(cfg, resolve=True),
        "environment": environment(),
        "rates": rates,
        "validation": trials,
        "rows": rows,
    }
    write_json(content, folder / "results.json")
    text = markdown(cfg, runs, rows, rates, trials)
    with atomic_path(folder / "results.md") as temporary:
        temporary.write_text(text)
    return text


def markdown(
    cfg: DictConfig,
    runs: list[Run],
    rows: list[dict[str, Any]],
    rates: dict[str, float],
    trials: list[dict[str, Any]],
) -> str:
    """The report's text."""
    config = runs[0].config
    columns = [c for c in cfg.columns if any(row.get(c) is not None for row in rows)] or list(cfg.columns)
    threads = max((os.cpu_count() or 1) // cfg.jobs, 1)
    captured = any(run.config["scene"]["cameras"] for run in runs)  # and may have fewer views
    lines = [
        f"# {cfg.title}",
        "",
        f"{len(rows)} of {len(runs)} runs; each {config['steps']} steps of {config['views_per_step']} view(s), "
        f"timesteps {config['timesteps']['_target_'].rpartition('.')[2]}, seed {config['seed']}, colours' rate "
        f"the settings' × {', '.join(f'{rate:g}' for rate in cfg.rates)}; metrics over "
        f"{'up to ' * captured}{config['metrics']['views']} random views; prior {config['diffusion'].get('name')}; "
        f"{os.cpu_count()} cores, {cfg.jobs} process(es) of {threads} thread(s).",
        "",
        *variant_table(rows, columns, colour_rates(runs)),
    ]
    if cfg.published:
        lines += ["", cfg.published.note, "", *table(cfg.published.headings, cfg.published.rows)]
    if cfg.targets:
        lines += ["", *target_lines(rows, cfg.targets, list(rates))]
    if cfg.trends:
        lines += ["", *trend_lines(rows, cfg.trends)]
    if trials:
        by_rate = [{**trial, "prompt": f"× {trial['rate']:g}"} for trial in trials]
        edits = len({(trial["scene"], trial["prompt"]) for trial in trials})
        lines += [
            "",
            f"The rate of each row is the best of {len(cfg.rates)} by mean direction on {edits} validation edits, "
            "which are also part of the table:",
            "",
            *prompt_table(by_rate, "clip_direction", list(rates)),
        ]
    for column in cfg.by_prompt:
        if any(row.get(column) is not None for row in rows):
            lines += ["", *prompt_table(rows, column, list(rates))]
    for note in [*no_judge_note(rows, config["metrics"]["clip"]), *cfg.notes]:
        lines += ["", note]
    return "\n".join(lines) + "\n"


def no_judge_note(rows: Sequence[Mapping[str, Any]], clip: str | None) -> list[str]:
    """Why there are no CLIP columns, where `rows` have none; `clip` is the judge that was asked for."""
    if not rows or any(row.get("clip_direction") is not None for row in rows):
        return []
    if clip is None:
        return ["No CLIP columns: metrics.clip names no judge."]
    return [f"No CLIP columns: {clip} can't be loaded; the runs' log.txt says why."]


def main() -> int:
    if any(argument in ("-h", "--help") for argument in sys.argv[1:]):
        print(f"{__doc__}\n{(FOLDER / 'evaluate.yaml').read_text()}")
        return 0
    try:
        return answer(lambda: evaluate(composed(sys.argv[1:])))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
