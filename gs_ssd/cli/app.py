"""What the front doors share: composing a configuration, one-line errors with exit codes, Ctrl-C, the device."""

from __future__ import annotations

import inspect
import math
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, cast, get_args

import hydra
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from tqdm import tqdm

from gs_ssd.assets import CONFIGS, ROOT
from gs_ssd.cli.shorthands import dotted_keys, expand, explain
from gs_ssd.errors import NonFiniteError, UserError
from gs_ssd.results.folder import slug

EXIT_BAD_INPUT = 2
EXIT_NO_EDIT = 3
EXIT_NOT_FINITE = 4

OmegaConf.register_new_resolver("root", lambda path: str(ROOT / path), replace=True)
OmegaConf.register_new_resolver("file_name", lambda path: Path(path).name.split(".")[0], replace=True)
OmegaConf.register_new_resolver("slug", slug, replace=True)


class StopOnInterrupt:
    """The first Ctrl-C asks the run to stop and still export; the second one ends the process."""

    def __enter__(self) -> StopOnInterrupt:
        self.requested = False
        self.previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def _handle(self, signum, frame) -> None:
        self.requested = True
        signal.signal(signal.SIGINT, self.previous)
        tqdm.write("stopping after this step; press Ctrl-C again to quit without results")

    def __exit__(self, *exception) -> None:
        signal.signal(signal.SIGINT, self.previous)


@dataclass
class Outcome:
    """What came of a run's steps: their reports, the error that ended them, whether Ctrl-C did."""

    reports: list[Any]
    error: NonFiniteError | None
    stopped: bool


def follow(
    steps: Iterator[Any], *, total: int, name: str, each: Callable[[Any], None] = lambda report: None
) -> Outcome:
    """Run `steps` with a progress bar, until they end, break or the user stops them; `each` sees every report."""
    reports: list[Any] = []
    with StopOnInterrupt() as stop, tqdm(total=total, desc=name, unit="step") as bar:
        try:
            for report in steps:
                reports.append(report)
                each(report)
                bar.update()
                if report.step % 10 == 0:
                    bar.set_postfix(t=report.t, loss=f"{report.loss:.3g}")
                if stop.requested:
                    break
        except NonFiniteError as error:
            return Outcome(reports, error, stop.requested)
    return Outcome(reports, None, stop.requested)


def pick_device(name: str) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"device={name} is none of auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda: torch sees no CUDA GPU here; use device=cpu or device=auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def build(cfg: DictConfig, group: str, **arguments: Any) -> Any:
    """The object that the settings of `group` and further `arguments` describe.

    Raises UserError where a setting is no number (or true or false) and what `_target_` names declares one.
    """
    settings = OmegaConf.select(cfg, group)
    if settings is None:
        return None
    _check_numbers(settings, group)
    return instantiate(settings, **arguments)


def _check_numbers(settings: DictConfig, path: str) -> None:
    try:
        declared = inspect.signature(get_object(settings._target_), eval_str=True).parameters
    except (ImportError, ValueError) as error:
        raise UserError(f"{path}._target_={settings._target_}: there is nothing of this name") from error
    for name in map(str, settings):
        value = settings[name]
        if isinstance(value, DictConfig):
            _check_numbers(value, f"{path}.{name}")
        elif name in declared:
            kind = declared[name].annotation
            kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
            numbers = [k for k in kinds if k in (int, float)]
            if kind is bool and not isinstance(value, bool):
                raise UserError(f"{path}.{name}={value} must be true or false")
            if not numbers or (value is None and NoneType in kinds):
                continue
            if isinstance(value, bool) or not isinstance(value, int | float if float in numbers else int):
                raise UserError(
                    f"{path}.{name}={value} must be a {'' if float in numbers else 'whole '}number"
                )
            if not math.isfinite(value):
                raise UserError(f"{path}.{name}={value} must be a finite number")


def check_whole_numbers(cfg: DictConfig, *names: str, least: int = 1) -> None:
    """Raise UserError unless the settings, by their dotted names, are whole numbers of at least `least`."""
    for name in names:
        value = OmegaConf.select(cfg, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise UserError(f"{name}={value} must be a whole number of at least {least}")


def check_positive(cfg: DictConfig, *names: str) -> None:
    """Raise UserError unless the settings are numbers above 0."""
    for name in names:
        value = cfg[name]
        if not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise UserError(f"{name}={value} must be a number above 0")


def report_user_errors(job: Callable[[], int | None]) -> int:
    """Run `job`; a UserError becomes one line on stderr and exit code 2."""
    try:
        return job() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except InstantiationException as error:
        # Hydra wraps what a constructor raises; ValueError and TypeError are about the values it was given.
        if not isinstance(error.__cause__, ValueError | TypeError):
            raise
        print(f"error: {' '.join(str(error.__cause__).split())}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except torch.cuda.OutOfMemoryError:
        print("error: the GPU is out of memory; lower resolution= or views_per_step=", file=sys.stderr)
        return EXIT_BAD_INPUT


def check_composition(config_name: str, overrides: list[str]) -> None:
    """Compose once before Hydra does, because its own messages don't say what exists."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        try:
            cfg = compose(config_name, overrides=overrides)
            OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
        except (HydraException, OmegaConfBaseException) as error:
            config = cast(dict[str, Any], OmegaConf.to_container(compose(config_name), resolve=False))
            raise UserError(explain(error, dotted_keys(config))) from error
        finally:
            GlobalHydra.instance().clear()


def launch(job: Callable[[DictConfig], int], config_name: str) -> int:
    """Run `job` on configs/<config_name>.yaml with the overrides of the command line; returns the exit code."""
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    flags: list[str] = []
    overrides = sys.argv[1:]
    if any(argument.startswith("-") for argument in overrides):  # Hydra's: --help, --cfg job, --multirun
        flags = [argument for argument in overrides if argument.startswith("-") or "=" not in argument]
        overrides = [argument for argument in overrides if argument not in flags]
    try:
        overrides = expand(overrides, cuda=torch.cuda.is_available())
        if not flags:
            check_composition(config_name, overrides)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    sys.argv[1:] = flags + overrides

    @hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=config_name)
    def hydra_main(cfg: DictConfig) -> None:
        code = report_user_errors(lambda: job(cfg))
        if code:
            sys.exit(code)

    hydra_main()
    return 0
