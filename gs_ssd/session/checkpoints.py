"""Checkpoints: one safetensors file with every tensor, and JSON in its header for the rest.

Written to a hidden sibling and moved into place, so that a killed process leaves the previous one whole.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gs_ssd import __version__
from gs_ssd.checks import whole
from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path

NAME = "checkpoint.safetensors"
FORMAT = 2
# What each kind of edit is, its front door and its class.
_KINDS = {"scene": ("a scene", "edit", "SceneEdit"), "image": ("a picture", "image", "ImageEdit")}
_TENSOR = "_tensor"  # {"_tensor": key} stands in the JSON where the tensor was


def save_checkpoint(path: str | os.PathLike, state: Mapping[str, Any], about: Mapping[str, Any]) -> Path:
    """Write nested `state` (tensors, numbers, texts, lists, dicts) and JSON-ready `about`; returns the file."""
    path = checkpoint_path(path, new=True)
    tensors: dict[str, Tensor] = {}
    content = {
        "format": FORMAT,
        "version": __version__,
        "about": dict(about),
        "state": _take_tensors(state, tensors),
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"gs_ssd": json.dumps(content)})
    return path


def load_checkpoint(
    path: str | os.PathLike, *, kind: str | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(state, about) of a checkpoint file or of a run's folder.

    Raises UserError for what is none of this version, and for that of another `kind` of edit ("scene", "image").
    """
    path = checkpoint_path(path)
    try:
        with safe_open(path, framework="pt") as file:
            content = json.loads((file.metadata() or {})["gs_ssd"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0][:120]
        raise UserError(
            f"{path} is not a whole checkpoint of gs_ssd ({reason}); copy it again, or start the run anew"
        ) from error
    if content["format"] != FORMAT or content["version"] != __version__:
        raise UserError(
            f"{path} was written by gs_ssd {content['version']}, this is {__version__}; "
            f"resume with that version (pip install gs_ssd=={content['version']}), or start the run anew"
        )
    about = content["about"]
    if kind is not None and about["kind"] != kind:
        what, door, resumes = _KINDS[about["kind"]]
        raise UserError(f"{path} is the checkpoint of {what}; use gs-ssd {door} resume=, or {resumes}.resume")
    return _put_tensors(content["state"], tensors), about


def checkpoint_path(path: str | os.PathLike, *, new: bool = False) -> Path:
    """The checkpoint's file, by its own path or its folder's; raises UserError where there is none, unless `new`."""
    path = Path(path).expanduser()
    file = path / NAME if path.is_dir() or (new and path.suffix != ".safetensors") else path
    if not new and not file.is_file():
        raise UserError(
            f"{path} holds no {NAME}; give the folder of a run that was interrupted (a finished run has none)"
            if path.is_dir()
            else f"no such checkpoint: {path}; give the folder of a run, such as outputs/face/spiderman/<time>"
        )
    return file


def _take_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        key = str(len(tensors))
        tensors[key] = value.detach().cpu().contiguous().clone()  # safetensors refuses shared storage
        return {_TENSOR: key}
    if isinstance(value, Mapping):
        # JSON's keys are texts, and an optimiser's state has numbers: pairs keep both.
        return {"_items": [[key, _take_tensors(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_take_tensors(item, tensors) for item in value]
    return value


def _put_tensors(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_put_tensors(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if _TENSOR in value:
        return tensors[value[_TENSOR]]
    return {key: _put_tensors(item, tensors) for key, item in value["_items"]}


class Keeper:
    """Writes checkpoints of a running edit, every `every` steps or else every `seconds` of work.

    Where writing takes long, it is done more rarely: at most `SHARE` of the run's time goes into it.
    """

    SHARE = 0.015

    def __init__(self, folder: str | os.PathLike, *, every: int | None = None, seconds: float = 30.0) -> None:
        self.folder = Path(folder)
        self.every = None if every is None else whole("checkpoint.every", every, least=1)
        self.pause = seconds
        self.last = time.perf_counter()

    def due(self, step: int) -> bool:
        """Whether to write after `step` steps."""
        if self.every is not None:
            return step % self.every == 0
        return time.perf_counter() - self.last >= self.pause

    def keep(self, state: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Write one now."""
        begun = time.perf_counter()
        save_checkpoint(self.folder, state, about)
        self.last = time.perf_counter()
        self.pause = max(self.pause, (self.last - begun) / self.SHARE)

    def discard(self) -> None:
        """Remove the checkpoint: the run is finished, and its results are there."""
        (self.folder / NAME).unlink(missing_ok=True)
