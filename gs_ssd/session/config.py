"""Edits from the command line's own settings: the only module that reads Hydra.

`compose` turns what was typed into a configuration. From weakest to strongest: the files in configs/, what the chosen
prior, canvas and method bring for each other (`gs_ssd.session.calibration`), a preset, what was typed.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gs_ssd import samples
from gs_ssd.assets import CONFIGS, ROOT, check_assets
from gs_ssd.checks import switch
from gs_ssd.diffusion.folders import recognise
from gs_ssd.errors import UserError
from gs_ssd.results.folder import slug
from gs_ssd.session.calibration import PHOTOS, calibrated
from gs_ssd.session.footprints import check_card, footprint
from gs_ssd.session.shorthands import (
    as_overrides,
    check_timesteps,
    chosen,
    dotted_keys,
    expand,
    explain,
    is_choice,
    preset_overrides,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from gs_ssd.diffusion.prior import DiffusionPrior
    from gs_ssd.ranks import Ranks
    from gs_ssd.results.scene import Videos
    from gs_ssd.scene.scene import Scene
    from gs_ssd.session.edit import SceneEdit
    from gs_ssd.session.image import ImageEdit
    from gs_ssd.session.measure import Measures

SAMPLE: dict[str, Any] = {
    **samples.FRAME,
    "background": samples.BACKGROUND,
    "editable": samples.EDITABLE,
    "views": samples.VIEWS,
    "view_words": samples.VIEW_WORDS,
}

# What no single value can replace (anchors, densify and a mask may be null).
GROUPS_OF_SETTINGS = ("checkpoint", "metrics", "optimizer", "prompt", "render", "scene", "scene.views")


def _sample(name: str) -> Any:
    value: Any = SAMPLE
    for part in name.split("."):
        value = value[part]
    return OmegaConf.create(list(value)) if isinstance(value, tuple) else value


OmegaConf.register_new_resolver("asset", lambda path: str(ROOT / path), replace=True)
OmegaConf.register_new_resolver("sample", _sample, replace=True)
OmegaConf.register_new_resolver("file_name", lambda path: Path(path).name.split(".")[0], replace=True)
OmegaConf.register_new_resolver("slug", slug, replace=True)


def compose(overrides: Sequence[str], door: str = "train") -> DictConfig:
    """The configuration of a front door (`train`, `edit_image`, `generate_image`) for what was typed.

    Raises UserError for what can't be composed, with what exists; before torch is imported, wherever that is possible.
    """
    check_assets()
    without = settled(overrides, door, cuda=False)
    cfg = _composed(without, door)  # what is mistyped is answered before torch is imported
    if not _needs_to_know_the_device(overrides):
        return cfg
    import torch

    here = settled(overrides, door, cuda=torch.cuda.is_available())
    return cfg if here == without else _composed(here, door)


def _needs_to_know_the_device(overrides: Sequence[str]) -> bool:
    """Whether the prior depends on the device."""
    both = [*preset_overrides(chosen(overrides, "preset")), *overrides]
    return chosen(both, "diffusion") in (None, "auto") and chosen(both, "device") != "cpu"


def settled(overrides: Sequence[str], door: str, *, cuda: bool) -> list[str]:
    """All overrides in Hydra's grammar: the calibration, the preset, what was typed."""
    both = expand([*preset_overrides(chosen(overrides, "preset")), *overrides], cuda=cuda)
    defaults = {
        "scene": "face",
        "guidance": "nfsd" if door == "generate_image" else "ssd",
        "timesteps": "linear",
    }
    choices = {name: chosen(both, name) or default for name, default in defaults.items()}
    check_timesteps(overrides, choices["guidance"])
    canvas = {"edit_image": "image", "generate_image": "noise"}.get(door)
    own = calibrated(
        prior=family(chosen(both, "diffusion") or "embedded", chosen(both, "diffusion.path")),
        canvas=canvas or ("blob" if choices["scene"] == "blob" else "scene"),
        method=choices["guidance"],
        rule=choices["timesteps"],
    )
    return [*as_overrides(own), *both]


# Names whose family is called otherwise.
FAMILIES = {"sd35": "sd3", "sdxl_turbo": "sdxl"}


def family(choice: str, path: str | None) -> str:
    """The family of a prior, as the calibration and the costs know it: a folder's is read off its small files.

    Raises UserError for a folder that holds no model. A hub name that is no alias's counts as Stable Diffusion.
    """
    if path not in (None, "null"):
        folder = Path(path.strip("'")).expanduser()
        return recognise(folder, weights=False).kind if os.path.exists(folder) else "sd"
    if choice.startswith("tiny"):
        return "tiny"
    name = FAMILIES.get(choice, choice)
    return name if name in ("embedded", *PHOTOS) else "sd"


def _composed(overrides: list[str], door: str) -> DictConfig:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        try:
            cfg = hydra_compose(door, overrides=overrides)
            OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
            _check_groups(cfg)
            return cfg
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(explain(error, _known_keys(overrides, door))) from error
        finally:
            GlobalHydra.instance().clear()


def _known_keys(overrides: list[str], door: str) -> list[str]:
    """The settings that there are, with those of the options that were chosen, such as a mask's."""
    try:
        cfg = hydra_compose(door, overrides=[line for line in overrides if is_choice(line)])
    except (HydraException, OmegaConfBaseException):  # an option is what is mistyped
        cfg = hydra_compose(door)
    return dotted_keys(cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=False)))


def _check_groups(cfg: DictConfig) -> None:
    """Raise UserError where one value stands in the place of several settings."""
    for group in GROUPS_OF_SETTINGS:
        parent, _, name = group.rpartition(".")
        within = OmegaConf.select(cfg, parent) if parent else cfg
        if within is not None and name in within and not isinstance(within[name], DictConfig):
            raise UserError(
                f"{group}={within[name]} is not one setting; it holds several, such as {group}.<name>="
            )


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain data."""
    return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))


def recalled(config: Any) -> DictConfig:
    """The configuration that `resolved` wrote down; its texts stay literal."""

    def literal(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: literal(item) for name, item in value.items()}
        if isinstance(value, list):
            return [literal(item) for item in value]
        return value.replace("${", "\\${") if isinstance(value, str) else value

    return cast(DictConfig, OmegaConf.create(literal(config)))


def build(cfg: DictConfig, group: str, **arguments: Any) -> Any:
    """The object that the settings of `group` and further `arguments` describe.

    Raises UserError where a setting is not of the type that what `_target_` names declares.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    settings = OmegaConf.select(cfg, group)
    if settings is None:
        return None
    if not isinstance(settings, DictConfig) or "_target_" not in settings:
        raise UserError(f"{group}={settings} must be settings with a _target_, as in configs/")
    _check_targets(settings, group)
    _check_numbers(settings, group)
    try:
        return instantiate(settings, **arguments)
    except InstantiationException as error:
        if error.__cause__ is None:  # Hydra's own refusal of what would run programs
            said = " ".join(str(error).split()).partition(". ")[0]
            raise UserError(f"{group}._target_={settings._target_} is refused: {said}") from error
        # Hydra wraps what a constructor raises; ValueError and TypeError are about the values it was given.
        if isinstance(error.__cause__, ValueError | TypeError):
            raise UserError(" ".join(str(error.__cause__).split())) from error
        raise


def _check_targets(settings: DictConfig, path: str) -> None:
    """Raise UserError unless every `_target_` is text."""
    if "_target_" in settings and not isinstance(settings._target_, str):
        raise UserError(f"{path}._target_={settings._target_}: there is nothing of this name")
    for name in map(str, settings):
        if isinstance(settings[name], DictConfig):
            _check_targets(settings[name], f"{path}.{name}")


def _check_numbers(settings: DictConfig, path: str) -> None:
    from hydra.utils import get_object

    try:
        declared = inspect.signature(get_object(settings._target_)).parameters
    except (ImportError, ValueError, TypeError) as error:
        raise UserError(f"{path}._target_={settings._target_}: there is nothing of this name") from error
    for name in map(str, settings):
        value = settings[name]
        if isinstance(value, DictConfig):
            _check_parts(value, f"{path}.{name}")
        if name in declared and not (isinstance(value, DictConfig) and "_target_" in value):
            _check_number(f"{path}.{name}", value, declared[name].annotation)


def _check_parts(settings: DictConfig, path: str) -> None:
    """Check a component of a component, or several by names, such as the masks that one is made of."""
    if "_target_" in settings:
        return _check_numbers(settings, path)
    for name in map(str, settings):
        if isinstance(settings[name], DictConfig):
            _check_parts(settings[name], f"{path}.{name}")


def _check_number(name: str, value: Any, kind: Any) -> None:
    """Raise UserError unless `value` is what the annotation `kind` says of numbers, truths and None."""
    words = kind if isinstance(kind, str) else str(getattr(kind, "__name__", kind))
    kinds = {word.strip() for word in words.split("|")}
    if kinds <= {"bool", "None"} and not (value is None and "None" in kinds):
        switch(name, value)
    if not kinds & {"int", "float"} or (value is None and "None" in kinds):
        return
    real = "float" in kinds
    if isinstance(value, bool) or not isinstance(value, int | float if real else int):
        raise UserError(f"{name}={value} must be a {'' if real else 'whole '}number")
    if not math.isfinite(value):
        raise UserError(f"{name}={value} must be a finite number")


def check_model(cfg: DictConfig) -> None:
    """Raise UserError where the prior's folder holds no whole model: by its small files and headers, without torch."""
    path = cfg.diffusion.get("path")
    if isinstance(path, str) and os.path.isdir(os.path.expanduser(path)):
        recognise(Path(path).expanduser())


def pick_device(name: str, ranks: Ranks | None = None, *, setting: str = "device") -> torch.device:
    """auto, cpu, cuda or cuda:<index>; of several ranks each has its own GPU.

    Raises UserError for a device that isn't there.
    """
    import torch

    from gs_ssd.devices import present

    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(name)):
        raise UserError(f"{setting}={name} is none of auto, cpu, cuda, cuda:<index>")
    if ranks is not None and ranks.size > 1:
        if ":" in name:
            raise UserError(f"{setting}={name} is one GPU for {ranks.size} ranks; use {setting}=cuda")
        if name == "cuda" or (name == "auto" and torch.cuda.is_available()):
            name = f"cuda:{ranks.local}"
    if name.startswith("cuda"):
        return present(name, setting=setting)
    return torch.device("cuda" if name == "auto" and torch.cuda.is_available() else "cpu")


def pick_prior_device(cfg: DictConfig, ranks: Ranks | None = None) -> torch.device:
    """Where the prior runs: on a card of its own, or where the scene is.

    Raises UserError for a card that is too small for it.
    """
    import torch

    asked = cfg.diffusion
    if asked.get("device") is None:
        device = pick_device(cfg.device, ranks)
    else:
        device = pick_device(asked.device, ranks, setting="diffusion.device")
    if device.type == "cuda" and "name" in asked:  # a prior of the user's own need not have one
        name = str(asked.name)
        if (model := footprint(name) or footprint(family(name, asked.path))) is not None:
            check_card(name, model, torch.cuda.get_device_properties(device).total_memory / 1e9)
    return device


def scene_of(cfg: DictConfig, generator: torch.Generator) -> Scene:
    """The scene that the settings describe."""
    from gs_ssd.scene.scene import Scene

    given = cfg.scene
    if given.parts is not None and not isinstance(given.parts, str):
        raise UserError(f"scene.parts={given.parts} must be a file of labels, or null")
    if given.view_words is not None and not isinstance(given.view_words, DictConfig):
        raise UserError(
            f"scene.view_words={given.view_words} must be words for front, side and back, or null"
        )
    mask = build(cfg, "scene.mask")
    known: dict[str, Any] = {
        "name": str(given.name),
        "up": given.up,
        "center": given.center,
        "radius": given.radius,
        "background": given.background,
        "mask": mask,
        "views": {name: _plain(value) for name, value in given.views.items()},
        "view_words": _plain(given.view_words),
    }
    if given.path is None:
        return Scene.of(build(cfg, "scene.start", generator=generator), **known)
    return Scene.load(given.path, cameras=given.cameras, parts=given.parts, **known)


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def measures_of(cfg: DictConfig) -> Measures:
    """How the settings measure an edit; raises UserError for a prompt in `metrics.among` that there is not."""
    from gs_ssd.session.measure import Measures
    from gs_ssd.session.shorthands import options

    among, known = cfg.metrics.among, options("prompt")
    if among is not None and not OmegaConf.is_list(among):
        raise UserError(f"metrics.among={among} must be a list of prompts, such as [clown,joker]")
    for name in among or ():
        if name not in known:
            raise UserError(f"metrics.among: no prompt is called {name!r}; there are: {', '.join(known)}")
    targets = targets_of(cfg)
    if among is None:
        # The published prompts each speak of a scene of their own.
        targets = {name: targets[name] for name in targets if said_of_any_scene(name)}
    return Measures(
        **{name: cfg.metrics[name] for name in ("clip", "views", "size", "lpips", "compat")},
        candidates=[targets[name] for name in among or targets if name in targets],
        keep=list(cfg.prompt.get("keep") or ()),
        seed=cfg.seed,
    )


def videos_of(cfg: DictConfig, scene: Scene) -> Videos:
    """What the settings render of a result."""
    from gs_ssd.session.result import turns

    return turns(scene, **{str(name): value for name, value in cfg.render.items()})


def scene_edit(
    cfg: DictConfig,
    load: Callable[[], DiffusionPrior] | None = None,
    ranks: Ranks | None = None,
    scene: Scene | None = None,
) -> SceneEdit:
    """The edit of a scene that the settings describe.

    Args:
        load: returns the prior, where one like the settings' is kept.
        ranks: the processes that share the edit, where there are several.
        scene: is edited in place of the settings' scene, what may change of it included.
    """
    import torch

    from gs_ssd.checks import whole
    from gs_ssd.ranks import ALONE
    from gs_ssd.render import compile_kernels, render
    from gs_ssd.session.edit import SceneEdit
    from gs_ssd.session.prompts import Prompts

    device = pick_device(cfg.device, ranks)
    whole("seed", cfg.seed, least=0, most=2**64 - 1)
    parts = {name: build(cfg, name) for name in ("guidance", "noise", "anchors")}
    parts["timesteps"] = _timesteps(cfg, parts["guidance"])
    parts |= {
        "densifier": build(cfg, "densify"),
        "hull": build(cfg, "hull"),
        "rates": build(cfg, "optimizer.rates"),
    }
    measures = measures_of(cfg)  # checked before any work is done
    generator = torch.Generator().manual_seed(cfg.seed)
    scene = scene_of(cfg, generator) if scene is None else scene
    measures.cameras(scene)  # are there enough? Found out before the edit
    videos_of(cfg, scene)  # checked before a prior is loaded
    prior_device = pick_prior_device(cfg, ranks)
    if device.type == "cuda":
        compile_kernels(device)  # minutes at the first time, and before anything is downloaded
    source = None if cfg.scene.path is None else cfg.prompt.source or ""
    prior: Any = load or (lambda: build(cfg, "diffusion", device=prior_device))
    if cfg.get("mask") is not None:
        prior = prior()
        scene = scene.select(
            build(cfg, "mask"),
            renderer=render,
            prior=prior,
            source=source or "",
            target=cfg.prompt.target,
        )
    return SceneEdit(
        scene,
        Prompts(source, cfg.prompt.target, cfg.prompt.negative),
        prior=prior,
        **parts,
        betas=cfg.optimizer.betas,
        clamp_colours=cfg.optimizer.clamp_colours,
        num_steps=cfg.steps,
        views_per_step=cfg.views_per_step,
        resolution=cfg.resolution,
        seed=cfg.seed,
        generator=generator,
        ranks=ranks or ALONE,
        device=device,
    )


def _timesteps(cfg: DictConfig, guidance: Any) -> Any:
    """The rule of the settings; none for a method that walks noise levels of its own, where none was typed."""
    from gs_ssd.edit.refit import Refit
    from gs_ssd.editors.base import Editor

    return None if isinstance(guidance, Refit | Editor) else build(cfg, "timesteps")


@dataclass(frozen=True)
class Opened:
    """A scene that settings open, what it shows in words (None: nobody said) and the ready-made targets for it.

    `device` is where edits of it are done.
    """

    scene: Scene
    words: str | None
    targets: dict[str, str]
    device: torch.device


def opened(overrides: Sequence[str]) -> Opened:
    """What overrides such as "scene=my.ply" and "scene.up=-y" open; raises UserError for a scene made from nothing."""
    import torch

    cfg = compose([*overrides, "prompt.source=a scene", "prompt.target=another scene"])
    if cfg.scene.path is None:
        raise UserError(
            f"scene={cfg.scene.name} is made from nothing, so there is nothing to open; give a file"
        )
    return as_opened(cfg, scene_of(cfg, torch.Generator()))


def as_opened(cfg: DictConfig, scene: Scene) -> Opened:
    """The scene of the settings, which is there already, as one that they opened."""
    return Opened(scene, cfg.scene.prompt, targets_of(cfg), pick_device(cfg.device))


def targets_of(cfg: DictConfig) -> dict[str, str]:
    """The targets of the ready-made prompts by name, for the scene of the settings."""
    from gs_ssd.session.shorthands import options

    targets = {}
    for name in options("prompt"):
        prompt = OmegaConf.load(CONFIGS / "prompt" / f"{name}.yaml")
        if not OmegaConf.is_missing(prompt, "target"):
            targets[name] = OmegaConf.create({"scene": cfg.scene, "prompt": prompt}).prompt.target
    return targets


def said_of_any_scene(name: str) -> bool:
    """Whether the ready-made prompt `name` takes its source from the scene."""
    prompt = OmegaConf.to_container(OmegaConf.load(CONFIGS / "prompt" / f"{name}.yaml"))
    return isinstance(prompt, dict) and prompt["source"] == "${scene.prompt}"


class Loaded:
    """The prior that was used last, kept for the next edit: `loaded(cfg)` returns the one that the settings name.

    Args:
        load: returns the prior in place of the settings' own.
    """

    def __init__(self, load: Callable[[], DiffusionPrior] | None = None) -> None:
        self._load = load
        self._key: str | None = None
        self._prior: DiffusionPrior | None = None

    def __call__(self, cfg: DictConfig) -> DiffusionPrior:
        key = json.dumps([resolved(cfg)["diffusion"], str(cfg.device)], default=str)
        if self._prior is None or key != self._key:
            self._prior = None  # before another one is loaded: two may not fit
            self._prior = (
                self._load() if self._load else build(cfg, "diffusion", device=pick_prior_device(cfg))
            )
            self._key = key
        return self._prior


def view_edit(cfg: DictConfig, rgb: Tensor, prior: DiffusionPrior, *, steps: int) -> ImageEdit:
    """The edit of a picture `rgb` [1, H, W, 3] of the scene by a scene's settings: same prompts, prior and seed."""
    from gs_ssd.session.image import ImageEdit
    from gs_ssd.session.prompts import Prompts

    prompts = Prompts(cfg.prompt.source or "", cfg.prompt.target, cfg.prompt.negative)
    return ImageEdit(rgb, prompts, prior=prior, num_steps=steps, seed=cfg.seed)


def image_edit(cfg: DictConfig, prior: DiffusionPrior | None = None) -> ImageEdit:
    """The edit of a picture that the settings describe, or the making of one (`generate_image`).

    By `prior`, where one is loaded already.
    """
    from gs_ssd.session.image import ImageEdit
    from gs_ssd.session.prompts import Prompts

    device = pick_prior_device(cfg)
    making, guidance = "image" not in cfg, build(cfg, "guidance")
    if not making and not cfg.image:
        raise UserError("no image given; name a PNG or JPEG file: image=photo.jpg")
    return ImageEdit(
        None if making else cfg.image,
        Prompts(None if making else cfg.prompt.source or "", cfg.prompt.target, cfg.prompt.negative),
        prior=prior or (lambda: build(cfg, "diffusion", device=device)),
        guidance=guidance,
        timesteps=_timesteps(cfg, guidance),
        rate=cfg.rate,
        size=cfg.size,
        num_steps=cfg.steps,
        seed=cfg.seed,
        **({"init": cfg.init} if making else {"space": cfg.space, "depth": cfg.depth}),
    )


def from_config(*overrides: str) -> SceneEdit:
    """The edit that `gs-ssd edit <overrides>` would run: from_config("scene=face", "prompt=clown", "preset=quick")."""
    return scene_edit(compose(overrides))
