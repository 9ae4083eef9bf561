"""What an evaluation consists of: runs, each a variant on a case with a rate and a seed.

A variant is a method, or one setting of it. A case is a scene with a prompt, or a picture of PIE-Bench. The rate scales
the colours' learning rate of a scene. A run's folder holds what its edit leaves, metrics.json, log.txt, and
finished.json, which is written last and says what exactly was run. A run whose finished.json still fits is never done
again, so an interrupted evaluation resumes where it stopped.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from gs_ssd.diffusion.load import weights_of
from gs_ssd.errors import NonFiniteError, UserError
from gs_ssd.evaluation.pie_bench import PieItem
from gs_ssd.files import sha256
from gs_ssd.session.config import compose, resolved

# Settings that name files, which a run is known by through their content.
INPUTS = (
    *("scene.path", "scene.parts", "image", "metrics.clip"),
    *("diffusion.path", "diffusion.lora", "diffusion.vae", "diffusion.control"),
    *("measured.clip", "measured.structure"),
)
MASKS, MASK_INPUTS = (
    ("scene.mask", "mask"),
    ("path", "model"),
)  # the latter also in the masks that one is made of


class Stopped(Exception):
    """A run was told to stop; it stays unfinished."""


def pull(edit: Iterable[Any], stop: Callable[[], bool]) -> NonFiniteError | None:
    """Do an edit's steps; returns what ended them early. Raises Stopped where `stop` says so."""
    try:
        for _ in edit:
            if stop():
                raise Stopped
    except NonFiniteError as error:
        return error
    return None


@dataclass(frozen=True)
class Case:
    """What is edited: a scene and a prompt with the settings that choose them, or a picture of PIE-Bench.

    Of a picture, `scene` is its key and `prompt` its category. `settings` are the case's own, which win over those that
    all runs share; a variant's win over them.
    """

    scene: str
    prompt: str
    overrides: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    picture: PieItem | None = None


@dataclass(frozen=True)
class Run:
    """One edit.

    Attributes:
        config: that of the front door, resolved.
        measured: how it is measured besides.
        share: of the variant's own number of steps, which `config` has.
    """

    variant: str
    rate: float
    case: Case
    seed: int
    config: dict[str, Any]
    measured: Mapping[str, Any] = field(default_factory=dict)
    share: float = 1.0

    @property
    def folder(self) -> Path:
        return Path(self.config["output_dir"])

    @property
    def key(self) -> str:
        """A digest of all that decides the result: the settings, and the files and weights they name by content."""
        content = copy.deepcopy(
            self.config | {"measured": dict(self.measured)} if self.measured else self.config
        )
        for name in ("output_dir", "viewer"):  # which change nothing
            content.pop(name, None)
        content["weights"] = weights(self.config["diffusion"])
        for name in INPUTS:
            parent, _, last = name.rpartition(".")
            known_by_content(_at(content, parent), last)
        for name in MASKS:
            for mask in _mappings(_at(content, name)):
                for last in MASK_INPUTS:
                    known_by_content(mask, last)
        text = json.dumps(content, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def finished(self) -> bool:
        try:
            return json.loads((self.folder / "finished.json").read_text(encoding="utf-8"))["key"] == self.key
        except (OSError, ValueError, KeyError):
            return False

    @property
    def seconds(self) -> float | None:
        """What the finished run took, measures and files included; None where its record doesn't say."""
        return json.loads((self.folder / "finished.json").read_text(encoding="utf-8")).get("seconds")

    def row(self) -> dict[str, Any]:
        """The finished run's line of the results: what was run, its metrics, and whether its numbers held."""
        finished = json.loads((self.folder / "finished.json").read_text(encoding="utf-8"))
        what = {
            "variant": self.variant,
            "rate": self.rate,
            "seed": self.seed,
            "scene": self.case.scene,
            "prompt": self.case.prompt,
            "diverged": finished["diverged"],
            "share": self.share,
            "steps": self.config["steps"],
        }
        item = self.case.picture
        if item is not None:
            what |= {
                "guidance": self.variant,
                "key": item.key,
                "category": item.category,
                "target": item.target,
            }
        return what | json.loads((self.folder / "metrics.json").read_text(encoding="utf-8"))


def weights(diffusion: Mapping[str, Any]) -> str:
    """What tells a prior's weights from others: a folder's content, a hub model's name and revision."""
    source, revision = weights_of(diffusion["name"], diffusion.get("path"), diffusion.get("revision"))
    folder = Path(source or "").expanduser()
    return digest(str(folder)) if source and folder.exists() else f"{source}@{revision}"


def _at(content: dict[str, Any], name: str) -> dict[str, Any]:
    """The mapping at a dotted name; an empty one where there is none."""
    for part in name.split(".") if name else ():
        content = content.get(part) or {}
    return content


def _mappings(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """`content` and every mapping in it."""
    yield content
    for value in content.values():
        if isinstance(value, dict):
            yield from _mappings(value)


def known_by_content(settings: dict[str, Any], name: str) -> None:
    """Replace the file or folder that a setting names by its digest."""
    path = settings.get(name)
    if isinstance(path, str) and path and Path(path).exists():
        settings[name] = digest(path)


@cache
def digest(path: str) -> str:
    """Of a file's content, or of a folder's files but what is there to be read."""
    if Path(path).is_file():
        return sha256(path)
    files = sorted(file for file in Path(path).rglob("*") if file.is_file() and file.suffix != ".md")
    return hashlib.sha256("".join(sha256(file) for file in files).encode()).hexdigest()


def plan(
    variants: Mapping[str, Sequence[str]],
    cases: Sequence[Case],
    *,
    rates: Mapping[str, Sequence[float]],
    common: Sequence[str],
    folder: Path,
    seeds: Sequence[int] | None = None,
    measured: Mapping[str, Any] | None = None,
    shares: Sequence[float] = (1.0,),
) -> list[Run]:
    """Every variant with each of its `rates` and seeds on every case; `common` are settings of all runs.

    A variant may set anything but the scene and the prompt. So a variant is composed once for all cases that differ in
    these alone: composing every pair would take minutes. Raises UserError for settings that `train.py` doesn't know.

    Args:
        seeds: None: the settings' own.
        measured: what else decides a run's metrics.
        shares: of every variant's own steps, a run each.
    """
    for variant, overrides in variants.items():
        if bad := [o for o in overrides if re.match(r"\+*(scene|prompt|preset)\b", o)]:
            raise UserError(
                f"variant {variant} sets {bad[0]}; a variant can't choose the scene or the prompt"
            )
    own = {case: compose_resolved((*case.overrides, *common, *case.settings)) for case in cases}
    alike: dict[str, Case] = {}  # by what a case sets besides its scene and prompt, the first such case
    runs = []
    for variant, overrides in variants.items():
        for case in cases:
            rest = {name: value for name, value in own[case].items() if name not in ("scene", "prompt")}
            first = alike.setdefault(json.dumps(rest, sort_keys=True), case)
            shared = (*first.overrides, *common, *first.settings)
            method = compose_resolved((*shared, *overrides, "no_edit_guard=false"))
            config = method | {name: own[case][name] for name in ("scene", "prompt")}
            for rate in rates[variant]:
                place = folder / "runs" / file_name(variant) / f"rate_{rate:g}"
                scaled = copy.deepcopy(config)
                scaled["optimizer"]["rates"]["sh0"] *= rate
                runs += seeded(variant, rate, case, scaled, place, seeds, measured or {}, shares)
    return runs


def seeded(
    variant: str,
    rate: float,
    case: Case,
    config: Mapping[str, Any],
    place: Path,
    seeds: Sequence[int] | None,
    measured: Mapping[str, Any],
    shares: Sequence[float] = (1.0,),
) -> list[Run]:
    """A run per seed and share of the steps, under `place`.

    That of all steps and the settings' own seed lies where a run without `seeds` and `budgets` does.
    """
    runs = []
    for share in shares:
        there = place if share == 1 else place / f"share_{share:g}"
        scaled = shortened(config, share)
        for seed in seeds or [config["seed"]]:
            seat = there if seed == config["seed"] else there / f"seed_{seed}"
            output = str(seat / case.scene / file_name(case.prompt))
            own = {**scaled, "seed": seed, "output_dir": output}
            runs.append(Run(variant, rate, case, seed, own, measured, share))
    return runs


def shortened(config: Mapping[str, Any], share: float) -> dict[str, Any]:
    """The settings with that share of their steps; densification that stops with the run still does."""
    steps = max(round(config["steps"] * share), 1)
    changed = {**config, "steps": steps}
    densify = config.get("densify")
    if densify and densify["stop"] == config["steps"]:
        changed["densify"] = {**densify, "stop": steps}
    return changed


@lru_cache
def compose_resolved(overrides: tuple[str, ...], name: str = "train") -> dict[str, Any]:
    """The configuration of `train.py`, or of another front door; raises UserError for what it doesn't know."""
    return resolved(compose(overrides, name))


def file_name(text: str) -> str:
    return re.sub(r"[^\w.=+-]+", "_", text)
