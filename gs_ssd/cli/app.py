"""What the front doors share: from what was typed to an exit code, with one line for everything that goes wrong."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from gs_ssd.cli.signals import NOTHING_YET, Interrupted, Signals
from gs_ssd.cli.streams import keep_streams_open
from gs_ssd.errors import RankLostError, UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

EXIT_BAD_INPUT = 2
EXIT_NO_EDIT = 3
EXIT_NOT_FINITE = 4
EXIT_INTERRUPTED = 130
HYDRA_FLAGS = ("--multirun", "-m")
# Hydra's launchers of a sweep, as packages of their own: the extra that brings each, and its module.
LAUNCHERS = {
    "joblib": ("joblib", "hydra_plugins.hydra_joblib_launcher"),
    "ray": ("ray", "hydra_plugins.hydra_ray_launcher"),
    "submitit_local": ("slurm", "hydra_plugins.hydra_submitit_launcher"),
    "submitit_slurm": ("slurm", "hydra_plugins.hydra_submitit_launcher"),
}


def launch(job: Callable[[DictConfig, Signals], int], door: str, arguments: Sequence[str]) -> int:
    """Run `job` on the configuration of `door` with what was typed; returns the exit code.

    `--help` shows the settings, `--cfg` what they come to, `--multirun` runs a sweep by Hydra's launchers.
    """
    return guarded(lambda signals: _launch(job, door, list(arguments), signals))


def guarded(job: Callable[[Signals], int | None]) -> int:
    """Run `job` so that it ends in at most a line, by a signal too; returns the exit code."""
    prepare_process()
    with Signals() as signals:
        return answer(lambda: _stoppable(lambda: job(signals), signals))


def _stoppable(job: Callable[[], int | None], signals: Signals) -> int | None:
    """Run `job`; a library that a signal broke off while it was imported may swallow it, and fail later by itself."""
    try:
        return job()
    except Exception:
        if signals.requested and not signals.patient:
            raise Interrupted(NOTHING_YET) from None
        raise


def prepare_process() -> None:
    """Set what must be set before torch is imported, and make output safe."""
    # Idle OpenMP threads spin for about 0.1 ms, then sleep. If they slept at once, every small operation would wait
    # for them to wake up; at libgomp's default, two processes on the same cores starve each other.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:  # see `end_at_once`
        signal.signal(signal.SIGINT, signal.default_int_handler)
    keep_streams_open()
    if first_rank():
        warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    else:
        warnings.simplefilter("ignore")  # rank 0 says them


def answer(job: Callable[[], int | None]) -> int:
    """Run `job`; what the user can mend becomes one line on stderr and an exit code."""
    try:
        return job() or 0
    except UserError as error:
        _say_last(f"error: {' '.join(str(error).split())}")
        return EXIT_BAD_INPUT
    except (Interrupted, KeyboardInterrupt, RankLostError) as stop:
        _say_last(f"stopped: {str(stop) or 'nothing was left behind'}")
        return EXIT_INTERRUPTED
    except MemoryError:
        _say_last("error: out of memory; lower resolution= or views_per_step=, or use a smaller scene")
        return EXIT_BAD_INPUT
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which need not be imported to be caught
            raise
        _say_last(
            "error: the GPU is out of memory; lower resolution= or views_per_step=, or set diffusion.vae_dtype=float16 "
            "or diffusion.vae=taesd (docs/models.md)"
        )
        return EXIT_BAD_INPUT


def _say_last(line: str) -> None:
    """The line that a command ends with; of several ranks the first to end says it."""
    if several_ranks():
        from gs_ssd.ranks import first_to_end

        if not first_to_end():
            return
    print(line, file=sys.stderr)


def first_rank() -> bool:
    """Whether this process is alone, or the first of several: the one that speaks and writes."""
    return os.environ.get("RANK", "0") == "0"


def several_ranks() -> bool:
    """Whether torchrun, or what speaks like it, says that there are other processes beside this one."""
    return os.environ.get("WORLD_SIZE", "1") not in ("", "1")


def check_alone(door: str) -> None:
    """Raise UserError where several processes would all do the work of `door`."""
    if several_ranks():
        raise UserError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']}: {door} is not shared out among ranks, only an edit of a scene is; "
            "start it without torchrun, or unset WORLD_SIZE"
        )


def check_launcher(arguments: Sequence[str]) -> None:
    """Raise UserError where the launcher of a sweep is not installed, or its cluster not there."""
    name = next((a.partition("=")[2] for a in arguments if a.startswith("hydra/launcher=")), "basic")
    if name == "basic":
        return
    if name not in LAUNCHERS:
        raise UserError(f"hydra/launcher={name} is none of basic, {', '.join(LAUNCHERS)}")
    extra, module = LAUNCHERS[name]
    try:
        there = find_spec(module) is not None
    except ModuleNotFoundError:  # no launcher at all
        there = False
    if not there:
        raise UserError(f"hydra/launcher={name} is not installed: pip install 'gs_ssd[{extra}]'")
    if name == "submitit_slurm" and shutil.which("srun") is None:
        raise UserError(
            "hydra/launcher=submitit_slurm: there is no Slurm here; start the sweep on a machine of the cluster, or "
            "use hydra/launcher=joblib"
        )


def _launch(
    job: Callable[[DictConfig, Signals], int], door: str, arguments: list[str], signals: Signals
) -> int:
    from gs_ssd.session.config import compose

    if any(argument in ("-h", "--help") for argument in arguments):
        return _help(door)
    if "--cfg" in arguments:
        return _show(door, arguments)
    if any(argument in HYDRA_FLAGS for argument in arguments):
        check_alone("--multirun")
        check_launcher(arguments)
        return _sweep(job, door, arguments, signals)
    if door != "train":
        check_alone(door)
    return job(compose(arguments, door), signals)


def _help(door: str) -> int:
    from gs_ssd.assets import CONFIGS
    from gs_ssd.session.shorthands import GROUPS, options

    groups = [f"{group}: {', '.join(options(group))}" for group in GROUPS if options(group)]
    settings = (CONFIGS / f"{door}.yaml").read_text(encoding="utf-8")
    print(f"{settings}\n# Choices (group=option)\n" + "\n".join(groups))
    return 0


def _show(door: str, arguments: list[str]) -> int:
    from omegaconf import OmegaConf

    from gs_ssd.session.config import compose

    typed = [a for a in arguments if "=" in a and not a.startswith("-")]
    print(OmegaConf.to_yaml(compose(typed, door), resolve="--resolve" in arguments))
    return 0


def _sweep(
    job: Callable[[DictConfig, Signals], int], door: str, arguments: list[str], signals: Signals
) -> int:
    """Hydra splits the sweep and launches it; each of its jobs is composed here, like a single run.

    With output_dir=out, the jobs write to out/0, out/1 and on. What the launchers keep lies beside the sweep's page.
    """
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    from gs_ssd.assets import CONFIGS
    from gs_ssd.session.config import compose
    from gs_ssd.session.shorthands import chosen, expand, quoted

    @hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=door)
    def one(cfg: DictConfig) -> int:
        typed = [o for o in HydraConfig.get().overrides.task if not o.startswith("diffusion=auto")]
        if place := chosen(typed, "output_dir"):
            own = Path(place.strip("'"), str(HydraConfig.get().job.num))
            typed = [*(o for o in typed if not o.startswith("output_dir=")), f"output_dir={own}"]
        sweeping = GlobalHydra.instance().hydra
        GlobalHydra.instance().clear()  # or composing would be refused within Hydra's own run
        whole, sys.argv = sys.argv, [*front, *typed]  # what a run says of itself repeats that run alone
        try:
            return answer(lambda: job(compose(typed, door), signals))
        finally:
            sys.argv = whole
            GlobalHydra.instance().hydra = sweeping

    flags = [argument for argument in arguments if argument.startswith("-")]
    typed = [argument for argument in arguments if argument not in flags]
    # Which prior "auto" means is each job's to say.
    settled = [o for o in expand(typed, cuda=False) if o in typed or not o.startswith("diffusion=")]
    front = sys.argv[: len(sys.argv) - len(arguments)]  # gs-ssd edit, python train.py
    place = (chosen(typed, "output_dir") or "").strip("'")
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder = Path(place).expanduser() if place else Path("outputs") / "sweeps" / stamp
    sys.argv[1:] = [*flags, *settled, f"hydra.sweep.dir={quoted(str(folder))}"]
    started = time.time()
    one()
    return answer(lambda: _link(typed, folder if place else Path("outputs"), folder, started))


def _link(typed: list[str], where: Path, folder: Path, started: float) -> None:
    """End a sweep with one page in `folder` that links the reports of its runs in `where`."""
    from gs_ssd.results.contact_page import runs_since, write_contact_sheet

    runs = runs_since(where, started)
    if runs:
        said = [setting for setting in typed if not setting.startswith("output_dir=")]
        page = write_contact_sheet(folder, runs, title=" ".join(said))
        print(f"sweep    {page}: {len(runs)} run{'s' * (len(runs) > 1)}")
