"""Many edits: what each of them is, which are done already, and the processes that do the others.

A run is one edit: a variant (a method, or one setting of it) with a rate (of the colours, relative to the settings')
on a case (a scene with a prompt). Its folder holds what `train.py` leaves, log.txt, and finished.json, which is written
last and says what exactly was run. A run whose finished.json still fits is never done again, so an interrupted
evaluation goes on where it stopped.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from tqdm import tqdm

from gs_ssd.errors import NonFiniteError, UserError
from gs_ssd.files import sha256
from gs_ssd.results.manifest import write_json
from gs_ssd.session.config import compose, measures_of, recalled, resolved, scene_edit, videos_of

INPUTS = ("scene.path", "scene.parts", "scene.mask.path", "diffusion.path", "metrics.clip")


@dataclass(frozen=True)
class Case:
    """What is edited: a scene and a prompt, and the settings of `train.py` that choose them."""

    scene: str
    prompt: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """One edit; `config` is `train.py`'s, resolved."""

    variant: str
    rate: float
    case: Case
    config: dict[str, Any]

    @property
    def folder(self) -> Path:
        return Path(self.config["output_dir"])

    @property
    def key(self) -> str:
        """A digest of all that decides the result: the settings, and the files they name by their content."""
        content = OmegaConf.create(self.config)
        del content["output_dir"]
        for name in INPUTS:
            path = OmegaConf.select(content, name)
            if path and Path(path).exists():
                OmegaConf.update(content, name, digest(path))
        text = json.dumps(OmegaConf.to_container(content), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def finished(self) -> bool:
        try:
            return json.loads((self.folder / "finished.json").read_text())["key"] == self.key
        except (OSError, ValueError, KeyError):
            return False

    def row(self) -> dict[str, Any]:
        """The finished run's line of the results: what was run, its metrics, and whether its numbers held."""
        diverged = json.loads((self.folder / "finished.json").read_text())["diverged"]
        what = {
            "variant": self.variant,
            "rate": self.rate,
            "scene": self.case.scene,
            "prompt": self.case.prompt,
        }
        metrics = json.loads((self.folder / "metrics.json").read_text())
        return what | {"diverged": diverged} | metrics


@lru_cache
def digest(path: str) -> str:
    """Of a file's content, or of a folder's files."""
    if Path(path).is_file():
        return sha256(path)
    files = sorted(file for file in Path(path).rglob("*") if file.is_file())
    return hashlib.sha256("".join(sha256(file) for file in files).encode()).hexdigest()


def plan(
    variants: dict[str, Sequence[str]],
    cases: Sequence[Case],
    *,
    rates: dict[str, Sequence[float]],
    common: Sequence[str],
    folder: Path,
) -> list[Run]:
    """Every variant with each of its `rates` on every case; `common` are settings of all runs.

    A variant may set anything but the scene and the prompt. So a variant is composed once for all cases that differ in
    these alone: composing every pair would take minutes. Raises UserError for settings that `train.py` doesn't know.
    """
    for variant, overrides in variants.items():
        if bad := [o for o in overrides if re.match(r"\+*(scene|prompt|preset)\b", o)]:
            raise UserError(
                f"variant {variant} sets {bad[0]}; a variant can't choose the scene or the prompt"
            )
    own = {case: compose_resolved((*case.overrides, *common)) for case in cases}
    alike: dict[str, Case] = {}  # by what a case sets besides its scene and prompt, the first such case
    runs = []
    for variant, overrides in variants.items():
        for case in cases:
            rest = {name: value for name, value in own[case].items() if name not in ("scene", "prompt")}
            first = alike.setdefault(json.dumps(rest, sort_keys=True), case)
            method = compose_resolved((*first.overrides, *common, *overrides, "no_edit_guard=false"))
            for rate in rates[variant]:
                place = folder / "runs" / _file_name(variant) / f"rate_{rate:g}" / case.scene / case.prompt
                config = copy.deepcopy(method | {name: own[case][name] for name in ("scene", "prompt")})
                config["output_dir"] = str(place)
                config["optimizer"]["rates"]["sh0"] *= rate
                runs.append(Run(variant, rate, case, config))
    return runs


@lru_cache
def compose_resolved(overrides: tuple[str, ...], name: str = "train") -> dict[str, Any]:
    """The configuration of `train.py`, or of another front door; raises UserError for what it doesn't know."""
    return resolved(compose(overrides, name))


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.=+-]+", "_", text)


def execute(run: Run) -> None:
    """Do one run in this process; its warnings go to log.txt. Raises UserError for bad input."""
    run.folder.mkdir(parents=True, exist_ok=True)
    cfg = recalled(run.config)
    diverged = False
    with (
        open(run.folder / "log.txt", "w", encoding="utf-8") as log,
        redirect_stdout(log),
        redirect_stderr(log),
    ):
        try:
            edit = scene_edit(cfg)
            for _ in edit:
                pass
        except UserError as error:
            raise UserError(f"{run.variant} on {run.case.scene}, {run.case.prompt}: {error}") from error
        except NonFiniteError as error:
            diverged = True
            print(f"error: {error}")
        result = edit.finish(measures_of(cfg))
        result.save(run.folder, videos=videos_of(cfg, edit.scene), config=run.config)
    write_json({"key": run.key, "diverged": diverged}, run.folder / "finished.json")


class Worker:
    """A process of the pool: what it was started with."""

    over: Event  # set when nothing more is to be begun

    @classmethod
    def start(cls, threads: int, over: Event) -> None:
        signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # the parent decides; an edit in progress still ends at once
        torch.set_num_threads(threads)
        cls.over = over

    @classmethod
    def do(cls, run: Run) -> None:
        """A run that waits in the pool's queue can't be cancelled any more, so it is looked at here."""
        if not cls.over.is_set():
            execute(run)


def do(runs: Sequence[Run], *, jobs: int, label: str) -> Iterator[Run]:
    """Do the runs that aren't finished, `jobs` at a time, and yield each as it ends, with a bar and its ETA.

    The cores are shared out evenly. Raises UserError for the first run with bad input.
    """
    todo = list({run.folder: run for run in runs if not run.finished}.values())
    if len(todo) < len(runs):
        print(f"{label}: {len(runs) - len(todo)} of {len(runs)} runs are finished already")
    if not todo:
        return
    threads = max((os.cpu_count() or 1) // jobs, 1)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # the workers inherit it
    context = get_context("spawn")
    over = context.Event()
    pool = ProcessPoolExecutor(
        min(jobs, len(todo)), mp_context=context, initializer=Worker.start, initargs=(threads, over)
    )
    futures = {pool.submit(Worker.do, run): run for run in todo}
    try:
        with tqdm(total=len(todo), desc=label, unit="run", smoothing=0.1) as bar:
            for future in as_completed(futures):
                future.result()
                bar.update()
                bar.set_postfix_str(f"{futures[future].variant} {futures[future].case.prompt}")
                yield futures[future]
    except BrokenProcessPool as error:
        raise UserError(
            f"a process of jobs={jobs} was ended, perhaps for want of memory; the same command with fewer jobs goes on "
            "where this one stopped"
        ) from error
    except KeyboardInterrupt:
        print("stopping; the same command goes on where this one stopped", file=sys.stderr)
        raise
    finally:
        over.set()
        pool.shutdown(wait=True, cancel_futures=True)
