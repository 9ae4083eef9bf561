"""An earlier run as the start of the next: what its run.json says of its scene, and the chain of edits before it.

Nothing here imports torch until a scene is opened.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gs_ssd import samples
from gs_ssd.errors import UserError
from gs_ssd.results.folder import MANIFEST, slug

if TYPE_CHECKING:
    from gs_ssd.scene.scene import Scene

SCENE, PARTS, CAMERAS = "edited.ply", "parts.npy", "cameras.json"
_PARTS_MASK = "gs_ssd.scene.masks.Parts"


def read_run(folder: str | os.PathLike, name: str = "scene") -> dict[str, Any]:
    """The run.json of the finished edit in `folder`; `name` is the setting that named it.

    Raises UserError, with what would do, for a folder without one.
    """
    path = Path(os.path.expanduser(folder))
    if not holds_run(path):
        raise UserError(f"{name}={folder} {_instead(path)}")
    return _manifest(path)


def scene_settings(folder: str | os.PathLike) -> dict[str, Any]:
    """The edited scene of the run in `folder` as settings of `configs/scene/file.yaml`.

    The object's place, the way up, the background, how views are drawn, the cameras, the parts and the mask are those
    of the scene that was edited. It shows what that edit's target said, and is called <scene>+<prompt>.
    """
    manifest, path = read_run(folder), Path(os.path.expanduser(folder))
    config = manifest.get("config") or {}
    target = str(manifest["prompts"]["target"])
    prompt = str((config.get("prompt") or {}).get("name") or slug(target))
    known: Mapping[str, Any] = manifest["scene"]
    settings = {name: known[name] for name in ("up", "center", "radius", "background", "views", "view_words")}
    settings |= {
        "name": f"{known['name']}+{prompt}",
        "path": str(path / SCENE),
        "prompt": target,
        "subject": target.removeprefix("a photo of "),
        "cameras": str(path / CAMERAS) if known["cameras"] else None,
        "parts": str(path / PARTS) if (path / PARTS).is_file() else None,
    }
    return settings | {"mask": _mask((config.get("scene") or {}).get("mask"), settings["parts"])}


def open_run(folder: str | os.PathLike, **changes: Any) -> Scene:
    """The edited scene of the run in `folder`, to be edited again, rendered or measured.

    `changes` are settings of `Scene.load` in place of the run's, such as `mask`; `path` names another file, such as a
    blend of the run.
    """
    from gs_ssd.scene import masks
    from gs_ssd.scene.scene import Scene

    settings = scene_settings(folder)
    described = dict(settings.pop("mask") or {"_target_": "Everything"})
    if "mask" not in changes:
        changes["mask"] = getattr(masks, described.pop("_target_").rpartition(".")[2])(**described)
    wanted = {name: value for name, value in settings.items() if name not in ("prompt", "subject")}
    return Scene.load(**wanted | changes)


def open_scene(path: str | os.PathLike, **changes: Any) -> Scene:
    """The scene in a file or in a run's folder; what a run knew of its edit, or of a blend of it, is kept.

    `changes` are settings of `Scene.load`. Raises UserError for a folder without a finished edit.
    """
    from gs_ssd.scene.scene import Scene

    path = Path(os.path.expanduser(path))
    file = path / SCENE if os.path.isdir(path) else path
    if holds_run(file.parent):
        return open_run(file.parent, path=file, parts=None, mask=None, **changes)
    if os.path.isdir(path) and not os.path.isfile(file):
        read_run(path)  # says what to give instead
    return Scene.load(file, **changes)


def holds_run(folder: Path) -> bool:
    """Whether `folder` holds the finished edit of a scene."""
    return "scene" in _manifest(folder) and (folder / SCENE).is_file()


def earlier_edits(source: Path | None, digest: str | None) -> list[dict[str, Any]]:
    """The edits that made the scene file `source` (of SHA-256 `digest`), the first one first; none for a plain file."""
    if source is None or digest is None or source.name != SCENE:
        return []
    manifest = _manifest(source.parent)
    if (manifest.get("output") or {}).get("sha256") != digest:
        return []
    this = {
        "run": str(source.parent.resolve()),
        "prompts": manifest.get("prompts"),
        "command": manifest.get("command"),
        "sha256": digest,
    }
    return [*(manifest.get("earlier_edits") or []), this]


def _mask(mask: Mapping[str, Any] | None, parts: str | None) -> dict[str, Any] | None:
    """The scene's own mask, with the edited scene's part labels; None: everything."""
    if mask is None:
        return (
            None
            if parts is None
            else {"_target_": _PARTS_MASK, "path": parts, "names": list(samples.EDITABLE)}
        )
    if mask.get("_target_") != _PARTS_MASK:
        return dict(mask)
    return None if parts is None else {**mask, "path": parts}


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _instead(folder: Path) -> str:
    """Why `folder` is no finished edit of a scene, and what to give."""
    if (folder / "checkpoint.safetensors").is_file():
        return f"was stopped before it wrote its results; go on with it first: gs-ssd edit resume={folder}"
    runs = [run for run in folder.glob(f"*/{MANIFEST}") if (run.parent / SCENE).is_file()]
    if runs:
        newest = max(runs, key=lambda run: run.stat().st_mtime).parent
        return f"is the folder of {len(runs)} runs; give one of them, such as the last: {newest}"
    if (folder / SCENE).is_file():
        return f"holds no run.json that says where its object is; give the file alone: {folder / SCENE}"
    return f"is a folder without a finished edit ({SCENE} and {MANIFEST}); give a run's folder, or a scene's file"
