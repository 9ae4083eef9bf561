"""What users type, turned into Hydra overrides, and the errors of a composition turned into one line.

The short forms a user would guess:

    scene=my.ply             scene=file scene.path=my.ply
    scene.path=my.ply        the same (the default scene's cameras and mask would be wrong for another file)
    prompt.target="..."      prompt=custom prompt.target="..."
    diffusion=my/folder      diffusion=folder diffusion.path=my/folder
    diffusion=auto           Stable Diffusion 2.1-base on CUDA, the embedded prior otherwise
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from gs_ssd.assets import CONFIGS
from gs_ssd.errors import UserError

GROUPS = ("scene", "prompt", "diffusion", "guidance", "timesteps", "render", "experiment")

TEXTS = (
    "scene.path",
    "scene.cameras",
    "image",
    "prompt.source",
    "prompt.target",
    "prompt.negative",
    "output_dir",
)
# What Hydra reads as nothing, a truth, a number, a list or a mapping.
NO_NAME = re.compile(r"(null|true|false|nan|inf|[-+]?\.?\d[\d._e+-]*|[\[{].*)?", re.IGNORECASE)


def options(group: str) -> list[str]:
    """The choices of a config group."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def _quoted(value: str) -> str:
    """A value as Hydra's grammar takes any text."""
    value = value.strip("\"'")
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _value(overrides: Sequence[str], key: str) -> str | None:
    values = [o.partition("=")[2] for o in overrides if o.partition("=")[0] == key]
    return values[-1] if values else None


def expand(overrides: Sequence[str], *, cuda: bool) -> list[str]:
    """Rewrite the short forms; `cuda` says whether a GPU is there for diffusion=auto and device=auto.

    Raises UserError where a group is given no name.
    """
    expanded = []
    for override in overrides:
        key, equals, value = override.partition("=")
        if equals and key in TEXTS:
            override = f"{key}={_quoted(value)}" if value not in ("null", "") else override
        if equals and key == "scene" and value not in options("scene") and _is_path(value):
            override = f"scene.path={_quoted(value)}"
        if equals and key == "diffusion" and value not in options("diffusion") and _is_path(value):
            expanded.append("diffusion=folder")
            override = f"diffusion.path={_quoted(value)}"
        elif equals and key in GROUPS and NO_NAME.fullmatch(value) and override != "experiment=null":
            raise UserError(f"{override}: choose one of {', '.join(options(key))}")
        expanded.append(override)
    if _value(expanded, "scene.path") is not None and _value(expanded, "scene") is None:
        expanded.insert(0, "scene=file")
    own_prompt = (
        _value(expanded, "prompt.target") is not None or _value(expanded, "prompt.source") is not None
    )
    if own_prompt and _value(expanded, "prompt") is None and _value(expanded, "experiment") is None:
        expanded.insert(0, "prompt=custom")
    device = _value(expanded, "device") or "auto"
    if _value(expanded, "diffusion") in (None, "auto"):
        on_gpu = cuda and device in ("auto", "cuda")
        expanded = [o for o in expanded if o != "diffusion=auto"]
        expanded.insert(0, f"diffusion={'sd21' if on_gpu else 'embedded'}")
    return expanded


def _is_path(value: str) -> bool:
    value = value.strip("\"'")
    return "/" in value or value.startswith(("~", ".")) or Path(value).suffix != "" or Path(value).exists()


def explain(error: Exception, keys: Sequence[str]) -> str:
    """One line for a composition error: what is wrong and what exists. `keys` are the config's dotted keys."""
    message = str(error)
    missing = re.search(r"Missing mandatory value: (prompt\.\w+)", message)
    if missing:
        return f'{missing[1]} is missing; say it in words, such as {missing[1]}="a photo of a clown"'
    group = re.search(r"(?:In '[^']*': )?Could not find '(\w+)/([^']*)'", message)
    if group and group[1] in GROUPS:
        known = options(group[1])
        own = "; for words of your own use prompt.target=" if group[1] == "prompt" else ""
        return f"no {group[1]} is called {group[2]!r}{_nearest(group[2], known)}; there are: {', '.join(known)}{own}"
    key = re.search(r"Could not override '([^']+)'", message) or re.search(
        r"Key '([^']+)' is not in struct", message
    )
    if key:
        full = re.search(r"full_key: (\S+)", message)
        name = full[1] if full and full[1].endswith(key[1]) else key[1]
        parent = name.rpartition(".")[0]
        siblings = [k for k in keys if k.rpartition(".")[0] == parent] or [k for k in keys if "." not in k]
        return f"no setting is called {name}{_nearest(name, keys)}; there are: {', '.join(siblings)}"
    return " ".join(message.split())


def _nearest(name: str, known: Sequence[str]) -> str:
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
