"""What users type, turned into Hydra overrides, and the errors of a composition turned into one line.

The short forms a user would guess:

    scene=my.ply             scene=file scene.path=my.ply
    scene.path=my.ply        the same (the default scene's cameras and mask would be wrong for another file)
    scene=outputs/.../<time> the edited scene of an earlier run, with what that run knew of it
    prompt.target="..."      prompt=custom prompt.target="..."
    diffusion=my/folder      diffusion=folder diffusion.path=my/folder
    mask=hair.npy            mask=file mask.path=hair.npy, and other masks (gs_ssd.session.selections)
    diffusion=auto           Stable Diffusion 2.1-base on CUDA, the embedded prior otherwise
    preset=quick             the settings in configs/presets/quick.yaml, before what is typed; `official` is the paper's

Nothing here imports torch: a mistyped word is answered at once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from gs_ssd.assets import CONFIGS
from gs_ssd.errors import UserError
from gs_ssd.results.earlier import scene_settings
from gs_ssd.session.selections import spelled_out

GROUPS = ("scene", "prompt", "diffusion", "guidance", "timesteps", "noise", "render", "mask", "preset")

TEXTS = (
    "scene.path",
    "scene.cameras",
    "scene.name",
    "image",
    "depth",
    "prompt.name",
    "prompt.source",
    "prompt.target",
    "prompt.negative",
    "diffusion.path",
    "output_dir",
    "scene.view_words.front",
    "scene.view_words.side",
    "scene.view_words.back",
)
MASK_TEXTS = re.compile(r"mask\.(.*\.)?(path|words|model)")
# What Hydra reads as nothing, a truth, a number, a list or a mapping.
NO_NAME = re.compile(r"(null|true|false|nan|inf|[-+]?\.?\d[\d._e+-]*|[\[{].*)?", re.IGNORECASE)


def options(group: str) -> list[str]:
    """The choices of a config group, or of the presets."""
    folder = (
        "presets" if group == "preset" else group
    )  # a group of Hydra's can't share its name with a setting
    return sorted(path.stem for path in (CONFIGS / folder).glob("*.yaml"))


def is_choice(override: str) -> bool:
    """Whether an override chooses an option of a group: `mask=grow`, `+mask@mask.of=parts`."""
    key = override.partition("=")[0]
    return "@" in key or (key in GROUPS and key != "preset")


def quoted(value: str) -> str:
    """A value as Hydra's grammar takes any text, literally: "${" is no reference to anything."""
    value = value.strip("\"'")
    # A backslash stands for itself but before a quote, a reference and the end.
    value = re.sub(r"(\\*)(\$\{)", lambda found: 2 * found[1] + "\\" + found[2], value)
    value = re.sub(r"(\\*)'", lambda found: 2 * found[1] + "\\'", value)
    return "'" + re.sub(r"(\\+)$", lambda found: 2 * found[1], value) + "'"


def chosen(overrides: Sequence[str], key: str) -> str | None:
    """The last value of `key`, None where it isn't set."""
    values = [o.partition("=")[2] for o in overrides if o.partition("=")[0] == key]
    return values[-1] if values else None


def expand(overrides: Sequence[str], *, cuda: bool) -> list[str]:
    """Rewrite the short forms; `cuda` says whether a GPU is there for diffusion=auto and device=auto.

    Raises UserError for what is no setting, and where a group is given no name.
    """
    expanded: list[str] = []
    known: list[str] = []  # of an earlier run's scene
    for override in spelled_out(overrides):
        key, equals, value = override.partition("=")
        _check_form(override, key, equals)
        if equals and (key in TEXTS or MASK_TEXTS.fullmatch(key)):
            override = f"{key}={quoted(value)}" if value not in ("null", "") else override
        if equals and key == "scene" and value not in options("scene") and _is_path(value):
            override = f"scene.path={quoted(value)}"
            if os.path.isdir(os.path.expanduser(value.strip("\"'"))):
                known = _known(value.strip("\"'"))
                continue
        if equals and key == "diffusion" and value not in options("diffusion") and _is_path(value):
            expanded.append("diffusion=folder")
            override = f"diffusion.path={quoted(value)}"
        elif equals and key in GROUPS and NO_NAME.fullmatch(value) and override != "preset=null":
            raise UserError(f"{override}: choose one of {', '.join(options(key))}")
        expanded.append(override)
    expanded[:0] = known
    if chosen(expanded, "scene.path") is not None and chosen(expanded, "scene") is None:
        expanded.insert(0, "scene=file")
    own_prompt = any(chosen(expanded, f"prompt.{name}") is not None for name in ("target", "source"))
    if own_prompt and chosen(expanded, "prompt") is None:
        expanded.insert(0, "prompt=custom")
    on_gpu = cuda and (chosen(expanded, "device") or "auto") in ("auto", "cuda")
    auto = f"diffusion={'sd21' if on_gpu else 'embedded'}"
    expanded = [auto if override == "diffusion=auto" else override for override in expanded]
    if chosen(expanded, "diffusion") is None:
        expanded.insert(0, auto)
    return expanded


def check_timesteps(typed: Sequence[str], method: str) -> None:
    """Raise UserError for timesteps beside a method that edits pictures, which walks noise levels of its own."""
    asked = [override for override in typed if re.match(r"[+~]*timesteps\b", override)]
    file = CONFIGS / "guidance" / f"{method}.yaml"
    if not asked or method not in options("guidance"):
        return
    settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    if settings["_target_"].startswith("gs_ssd.guidance."):
        return
    levels = " and ".join(f"guidance.{name}=" for name in ("strength", "rounds") if name in settings)
    raise UserError(
        f"{asked[0]} is for methods that distil; guidance={method} edits pictures through noise levels of its own: "
        f"leave it out, and use {levels}"
    )


def _known(folder: str) -> list[str]:
    """The settings of an earlier run's edited scene, as overrides that what is typed comes after."""
    settings = _flat({"scene": scene_settings(folder)})
    # The scene's own mask and views have names of their own, which scene=file need not have.
    own = ("scene.mask.", "scene.views.", "scene.view_words.")
    return as_overrides(
        {
            ("++" if name.startswith(own) else "") + name: v
            for name, v in settings.items()
            if name != "scene.mask"
        }
    )


def _check_form(override: str, key: str, equals: str) -> None:
    if override.startswith("-"):
        name = override.lstrip("-").partition("=")[0].replace("-", "_")
        like = {"prompt": 'prompt.target="a clown"', "scene": "scene=my.ply"}.get(name, f"{name}=...")
        raise UserError(
            f"{override} is no option; settings have no dashes and are written name=value, such as {like}"
        )
    if override.startswith("~"):
        name = key.removeprefix("~")
        raise UserError(
            f"{override}: settings can't be removed; {name}=null turns off what can be turned off"
        )
    if not equals:
        raise UserError(f"{override!r} is no setting; settings are name=value, such as prompt=clown")


def preset_overrides(name: str | None) -> list[str]:
    """The settings of configs/presets/<name>.yaml as overrides; raises UserError for an unknown preset."""
    if name in (None, "null"):
        return []
    if name not in options("preset"):
        known = options("preset")
        raise UserError(
            f"no preset is called {name!r}{nearest(str(name), known)}; there are: {', '.join(known)}"
        )
    content = yaml.safe_load((CONFIGS / "presets" / f"{name}.yaml").read_text(encoding="utf-8"))
    return as_overrides(_flat(content))


def as_overrides(settings: Mapping[str, Any]) -> list[str]:
    """Dotted settings in Hydra's grammar."""
    return [f"{name}={_written(value)}" for name, value in settings.items()]


def _written(value: Any) -> str:
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(_written(item) for item in value)}]"
    return "null" if value is None else str(value).lower()


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _is_path(value: str) -> bool:
    value = value.strip("\"'")
    return "/" in value or value.startswith(("~", ".")) or Path(value).suffix != "" or os.path.exists(value)


def explain(error: Exception, keys: Sequence[str]) -> str:
    """One line for a composition error: what is wrong and what exists. `keys` are the config's dotted keys."""
    message = str(error)
    missing = re.search(r"Missing mandatory value: ([\w.]+)(?:.*full_key: (\S+))?", message, re.DOTALL)
    if missing:
        # The whole key, which is the second where the first is a bare name; where a value refers to a missing one, the
        # first is the missing one's.
        name = missing[1] if "." in missing[1] else missing[2] or missing[1]
        if name.startswith("prompt."):
            return f'{name} is missing; say it in words, such as {name}="a photo of a clown"'
        return f"{name} is missing; give it as {name}=<value>"
    group = re.search(r"(?:In '[^']*': )?Could not find '(\w+)/([^']*)'", message)
    if group and group[1] in GROUPS:
        known = options(group[1])
        own = "; for words of your own use prompt.target=" if group[1] == "prompt" else ""
        return f"no {group[1]} is called {group[2]!r}{nearest(group[2], known)}; there are: {', '.join(known)}{own}"
    key = re.search(r"Could not override '([^']+)'", message) or re.search(
        r"Key '([^']+)' is not in struct", message
    )
    if key:
        if key[1] == "experiment":
            return "no setting is called experiment; the ready-made settings are presets: preset=quick"
        full = re.search(r"full_key: (\S+)", message)
        name = full[1] if full and full[1].endswith(key[1]) else key[1]
        if name.startswith("mask.") and "mask" not in keys:
            return f"{name} belongs to a mask, and none is chosen; choose one with mask=: {', '.join(options('mask'))}"
        near = nearest(name, keys)
        return f"no setting is called {name}{near}; there are: {', '.join(siblings(name, keys))}"
    return " ".join(message.split())


def siblings(name: str, keys: Sequence[str]) -> list[str]:
    """Those of the dotted `keys` that stand where `name` should, or else nearest above it."""
    parent = name
    while parent:
        parent = parent.rpartition(".")[0]
        known = [key for key in keys if key.rpartition(".")[0] == parent and not key.endswith("_target_")]
        if known:
            return known
    return []


def nearest(name: str, known: Sequence[str]) -> str:
    """ " (did you mean ...?)", or nothing where no known name is like it."""
    close = get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def dotted_keys(config: dict[str, Any], prefix: str = "") -> list[str]:
    """All keys of a nested config, dotted, branches included."""
    keys = []
    for key, value in config.items():
        keys.append(prefix + key)
        if isinstance(value, dict):
            keys += dotted_keys(value, prefix + key + ".")
    return keys
