"""An evaluation's settings: what was typed, the experiment's file, and what they compare."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from gs_ssd.assets import CONFIGS
from gs_ssd.checks import choice, number, whole
from gs_ssd.errors import UserError
from gs_ssd.files import check_writable
from gs_ssd.session.shorthands import dotted_keys, explain, options

FOLDER = CONFIGS / "evaluate"
LAUNCHERS = ["local", "ray", "slurm"]


def composed(arguments: Sequence[str]) -> DictConfig:
    """The settings: evaluate.yaml, the experiment's file over it, `arguments` over both; raises UserError."""
    base = OmegaConf.load(FOLDER / "evaluate.yaml")
    assert isinstance(base, DictConfig)
    for argument in arguments:
        if not argument.partition("=")[0].strip() or "=" not in argument:
            raise UserError(f"{argument!r} is no setting; settings are name=value, such as guidance=all")
    try:
        typed = OmegaConf.from_dotlist(list(arguments))
        known = sorted(path.stem for path in (FOLDER / "experiment").glob("*.yaml"))
        name = typed.get("experiment", base.experiment)
        if name not in known:
            raise UserError(f"no experiment is called {name!r}; there are: {', '.join(known)}")
        OmegaConf.set_struct(base, True)
        for group in ("methods", "variants", "sweep", "slurm"):
            OmegaConf.set_struct(base[group], False)
        return OmegaConf.merge(base, OmegaConf.load(FOLDER / "experiment" / f"{name}.yaml"), typed)  # type: ignore[return-value]
    except (OmegaConfBaseException, YAMLError) as error:
        raise UserError(explain(error, dotted_keys(OmegaConf.to_container(base)))) from error  # type: ignore[arg-type]


def variants(cfg: DictConfig) -> dict[str, list[str]]:
    """What is compared, by name, as settings of an edit; `guidance` picks from them."""
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


def check(cfg: DictConfig) -> None:
    """Raise UserError for a setting of the wrong type or range."""
    whole("jobs", cfg.jobs, least=1)
    choice("launcher", cfg.launcher, LAUNCHERS)
    whole("gpus", cfg.gpus, least=0)
    if not isinstance(cfg.slurm, DictConfig):
        raise UserError(f"slurm={cfg.slurm} must be settings of submitit, such as slurm.timeout_min=60")
    if cfg.steps is not None:
        whole("steps", cfg.steps, least=1)
    if not cfg.rates or not all(isinstance(rate, int | float) and rate > 0 for rate in cfg.rates):
        raise UserError(f"rates={cfg.rates} must be numbers above 0, such as rates=[0.5,1,2]")
    if not isinstance(cfg.overrides, ListConfig) or not all(isinstance(o, str) for o in cfg.overrides):
        raise UserError(f"overrides={cfg.overrides} must be a list of settings, such as overrides=[steps=60]")
    shares = cfg.budgets
    if not isinstance(shares, ListConfig) or 1 not in shares or len(set(shares)) < len(shares):
        raise UserError(
            f"budgets={shares} must be a list of different shares with 1 in it, such as [0.25,0.5,1]"
        )
    for share in shares:
        number("budgets", share, above=0, most=1)
    seeds = cfg.seeds
    if seeds is None:
        return
    if not isinstance(seeds, ListConfig) or not seeds or len(set(seeds)) < len(seeds):
        raise UserError(f"seeds={seeds} must be a list of different whole numbers, such as seeds=[0,1,2]")
    for seed in seeds:
        whole("seeds", seed, least=0, most=2**64 - 1)


def output_folder(cfg: DictConfig) -> Path:
    """Where the results go; raises UserError where they can't be written, before any work is done."""
    folder = Path(str(cfg.output_dir or Path("outputs") / "evaluate" / cfg.experiment))
    check_writable(folder, "output_dir")
    return folder.expanduser()
