"""`mask=` as it is typed: files by their names, and masks that are made of others.

    mask=hair.npy            mask=file mask.path=hair.npy
    mask=masks/              mask=pictures mask.path=masks/
    mask=hair.yaml           the selection that the file describes

The masks that a combined one is made of stand in `of`, each with its settings below it; a list's are called by their
kinds, others as one likes:

    mask=grow mask.of=parts mask.of.names=[hair] mask.distance=0.05
    mask=difference mask.of=[prior,sphere] mask.of.sphere.center=[0,1,0] mask.of.sphere.radius=0.4
    mask=union mask.of.left=sphere mask.of.left.center=[-1,0,0] mask.of.right=sphere ...

A file has the same words:  {mask: grow, of: {mask: parts, names: [hair]}, distance: 0.05}

Hydra does the rest: `mask.of.left=sphere` is `+mask@mask.of.left=sphere`, the config group at another place.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from gs_ssd.assets import CONFIGS
from gs_ssd.errors import UserError

_OPERAND = re.compile(r"mask(\.of(\.\w+)?)*\.of(\.(?P<name>\w+))?")
_NO_KIND = re.compile(r"null|true|false|[-+.\d].*", re.IGNORECASE)  # what Hydra takes for no text
_DESCRIPTIONS = (".yaml", ".yml")


def spelled_out(overrides: Sequence[str]) -> list[str]:
    """The overrides with every mask named by its kind, at its place. Raises UserError for what describes no mask."""
    written = [line for override in overrides for line in _from_path(override)]
    single = {
        key
        for key, _, value in (o.partition("=") for o in written)
        if key.endswith(".of") and value[:1] != "["
    }
    return [line for override in written for line in _operands(override, single)]


def _from_path(override: str) -> list[str]:
    """A mask that is named by a file, as the kind that reads it; everything else as it is."""
    key, equals, value = override.partition("=")
    place = _OPERAND.fullmatch(key)
    if not equals or not (key == "mask" or place) or value in _kinds() or not _is_path(value):
        return [override]
    path = Path(value.strip("\"'"))
    if path.suffix.lower() in _DESCRIPTIONS:
        return _described(_read(path), key, path)
    kind = "pictures" if os.path.isdir(path.expanduser()) else "file"
    return [f"{key}={kind}", f"{key}.path={value}"]


def _operands(override: str, single: set[str]) -> list[str]:
    """`mask.of=[a,b]` and `mask.of.name=a` as Hydra's places; `single` are the places that hold one mask."""
    key, equals, value = override.partition("=")
    place = _OPERAND.fullmatch(key)
    if not equals or not place or (place["name"] and key.rpartition(".")[0] in single):
        return [override]  # the latter is a setting of the one mask there
    if value[:1] != "[":
        if not value or _NO_KIND.fullmatch(value):
            raise UserError(f"{override}: choose one of {', '.join(_kinds())}")
        return [f"+mask@{key}={value}"]
    kinds = [kind.strip() for kind in value.strip("[]").split(",") if kind.strip()]
    if not kinds:
        raise UserError(f"{override}: a combined mask is made of others, such as {key}=[prior,sphere]")
    if len(set(kinds)) < len(kinds):
        raise UserError(
            f"{override}: give the masks names, such as {key}.first={kinds[0]} {key}.second={kinds[0]}"
        )
    return [f"+mask@{key}.{kind}={kind}" for kind in kinds]


def _read(path: Path) -> Any:
    try:
        return yaml.safe_load(path.expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:100]
        raise UserError(f"mask={path} can't be read: {reason}") from error


def _described(content: Any, key: str, path: Path) -> list[str]:
    """A mask as a file describes it, as it would be typed at `key`."""
    if isinstance(content, str):
        content = {"mask": content}
    if not isinstance(content, dict) or not isinstance(content.get("mask"), str):
        raise UserError(
            f"{path}: {key} must say mask: and one of {', '.join(_kinds())}, such as "
            "{mask: sphere, center: [0, 0, 0], radius: 1}"
        )
    lines = [f"{key}={content['mask']}"]
    for name, value in content.items():
        if name == "of":
            lines += _described_operands(value, f"{key}.of", path)
        elif name != "mask":
            lines.append(f"{key}.{name}={_typed(value)}")
    return lines


def _described_operands(value: Any, key: str, path: Path) -> list[str]:
    if isinstance(value, list):
        kinds = [item.get("mask") if isinstance(item, dict) else item for item in value]
        clear = len(set(map(str, kinds))) == len(kinds)
        value = {
            str(kind) if clear else f"{kind}{i}": item for i, (kind, item) in enumerate(zip(kinds, value), 1)
        }
    elif not isinstance(value, dict) or "mask" in value:
        return _described(value, key, path)
    return [line for name, item in value.items() for line in _described(item, f"{key}.{name}", path)]


def _typed(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_typed, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _kinds() -> list[str]:
    return sorted(path.stem for path in (CONFIGS / "mask").glob("*.yaml"))


def _is_path(value: str) -> bool:
    value = value.strip("\"'")
    if value[:1] == "[" or re.fullmatch(r"[-+.\de]*", value):
        return False  # a list, a number
    return "/" in value or Path(value).suffix != "" or os.path.exists(value)
