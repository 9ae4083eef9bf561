"""The edits that were done one upon the other, as states and as commands that do them again."""

from __future__ import annotations

import json
import os
import re
import shlex
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gs_ssd import samples
from gs_ssd.checks import number, whole
from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path
from gs_ssd.results.blend import STRONGEST, blend
from gs_ssd.results.scene import save_scene
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.scene import Scene
from gs_ssd.session.result import EditResult

FILE = "history.json"
_LONGEST = 100  # edits of a history that is loaded
_LARGEST = 1 << 30  # bytes of one, unpacked
_PACKED = re.compile(rf"{re.escape(FILE)}|\d{{2,3}}/selection\.npy")


@dataclass(frozen=True)
class Settings:
    """What an edit is asked for. None takes what suits the prior and the method.

    Attributes:
        source, target, negative: the prompts.
        method, prior: as `guidance=` and `diffusion=` on the command line.
        steps, seed: how long, and of everything drawn.
        strength: how much of the edit is kept: 0 is the source, 1 the edit, up to 1.5.
        stop_after: steps after which it is stopped, as by the page's button; None: none.
        further: more settings as they are typed on the command line.
    """

    source: str
    target: str
    negative: str | None = None
    method: str = "ssd"
    prior: str = "auto"
    steps: int | None = None
    seed: int = 0
    strength: float = 1.0
    stop_after: int | None = None
    further: tuple[str, ...] = ()

    def words(self) -> list[str]:
        """The settings as they are typed on the command line; `strength` is none of them."""
        if self.steps is not None:
            whole("steps", self.steps, least=1, most=1_000_000)
        if self.stop_after is not None:
            whole("stop_after", self.stop_after, least=1)
        number("strength", self.strength, least=0, most=STRONGEST)
        words = [f"prompt.source={self.source}", f"prompt.target={self.target}"]
        words += [f"prompt.negative={self.negative}"] * (self.negative is not None)
        words += [f"guidance={self.method}", f"diffusion={self.prior}"]
        words += [f"steps={self.steps}"] * (self.steps is not None)
        words += [f"stop_after={self.stop_after}"] * (self.stop_after is not None)
        return [*words, f"seed={self.seed}", *self.further]


@dataclass(frozen=True)
class Entry:
    """One edit that is done: what was asked for, what it started from, what came of it, and how much of it is kept."""

    number: int
    settings: Settings
    source: Scene
    result: EditResult
    strength: float = 1.0

    @property
    def title(self) -> str:
        steps = f"{len(self.result.reports)} of {self.result.num_steps}"
        strength = "" if self.strength == 1 else f", strength {self.strength:g}"
        return (
            f"{self.settings.target} ({steps} steps, {int(self.source.editable.sum()):,} selected{strength})"
        )

    def scene(self) -> Scene:
        """The scene after this edit, with its selection carried over."""
        if self.strength == 0:
            return self.source
        before, after, origin = self._parts()
        mixed = blend(before, after, origin, self.strength)
        return replace(
            self.source, gaussians=mixed, editable=self.descended(self.source.editable), digest=None
        )

    def descended(self, chosen: Tensor) -> Tensor:
        """A selection [N] bool of the scene before this edit as one of the scene after it."""
        if self.strength == 0:
            return chosen
        before, _, origin = self._parts()
        chosen = chosen.cpu()
        if self.strength >= 1:
            return chosen[origin]
        gone = torch.ones(len(before), dtype=torch.bool)  # what the edit removed comes last, fading
        gone[origin] = False
        return torch.cat([chosen[origin], chosen[gone]])

    def _parts(self) -> tuple[Gaussians, Gaussians, Tensor]:
        return self.result.before.to("cpu"), self.result.after.to("cpu"), self.result.origin.cpu().long()

    def with_strength(self, strength: float) -> Entry:
        return replace(self, strength=number("strength", strength, least=0, most=STRONGEST))

    def folder(self, session: Path) -> Path:
        return session / f"{self.number:02d}"

    def save(self, session: Path) -> None:
        """Write selection.npy and what came of the edit: edited.ply and origin.npy."""
        folder = self.folder(session)
        save_scene(folder, self.result.after.to("cpu"), origin=self.result.origin)
        write_selection(self.source.editable, folder / "selection.npy")


def write_selection(chosen: Tensor, path: Path) -> None:
    """Write a selection [N] bool as an index of the scene's rows, as `mask=file` reads it."""
    with atomic_path(path) as temporary:
        np.save(temporary, chosen.cpu().numpy())


def commands(entries: Sequence[Entry], scene_words: Sequence[str], further: Sequence[str] = ()) -> list[str]:
    """The command lines that do `entries` again, to be typed in the session's folder; one edit starts from the last.

    `scene_words` open the first scene, `further` hold for every edit; both as they are typed on the command line.
    """
    lines, words = [], list(scene_words)
    for entry in entries:
        folder = f"{entry.number:02d}"
        mask = ["mask=file", f"mask.path={folder}/selection.npy"]
        lines.append(
            _line("edit", [*words, *further, *entry.settings.words(), *mask, f"output_dir={folder}"])
        )
        last = f"{folder}/edited.ply"
        if entry.strength != 1:
            last = f"{folder}/blended.ply"
            lines.append(_line("blend", [f"run={folder}", f"strength={entry.strength:g}", f"output={last}"]))
        words = chained(scene_words, entry.source, last)
    return lines


_PLACE = ("scene.center=", "scene.radius=", "scene.up=")


def chained(scene_words: Sequence[str], scene: Scene, path: str) -> list[str]:
    """The words that open the file `path` as the scene that `scene_words` open, edited: with the same frame."""
    kept = [word for word in scene_words if not word.startswith(("scene.path=", "scene.mask", "scene.parts"))]
    opened = next((word[6:] for word in kept if word.startswith("scene=")), "file")
    if opened not in samples.SUBJECTS and not Path(opened).expanduser().is_dir():
        # A plain file: its place was found, and what is found in the edited one may differ.
        kept = [word for word in kept if not word.startswith(("scene=", *_PLACE))]
        center, up = (
            ",".join(repr(float(value)) for value in vector)
            for vector in (scene.frame.center, scene.frame.up)
        )
        kept = ["scene=file", *kept, f"scene.center=[{center}]", f"scene.up=[{up}]"]
        kept.append(f"scene.radius={scene.frame.radius!r}")
    return [*kept, f"scene.path={path}", "scene.mask=null", "scene.parts=null"]


def placed(words: Sequence[str], known: Sequence[str]) -> list[str]:
    """The words with the files that they name as absolute paths; `known` are choices that are no files."""
    found = []
    for word in words:
        name, _, value = word.partition("=")
        path = Path(value).expanduser()
        file = name in ("scene", "scene.path", "scene.cameras", "scene.parts") and value not in known
        found.append(f"{name}={path.resolve()}" if file and os.path.exists(path) else word)
    return found


def _line(command: str, words: Sequence[str]) -> str:
    return shlex.join(["gs-ssd", command, *words])


def save(
    entries: Sequence[Entry], scene_words: Sequence[str], session: Path, further: Sequence[str] = ()
) -> Path:
    """Write history.json and replay.sh, and each edit's selection beside them; returns history.json."""
    for entry in entries:
        write_selection(entry.source.editable, entry.folder(session) / "selection.npy")
    lines = commands(entries, scene_words, further)
    content = {
        "scene": list(scene_words),
        "edits": [
            asdict(entry.settings)
            | {"strength": entry.strength, "selection": f"{entry.number:02d}/selection.npy"}
            for entry in entries
        ],
        "commands": lines,
    }
    with atomic_path(session / FILE) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
    with atomic_path(session / "replay.sh") as temporary:
        script = ["#!/bin/sh", "set -e", 'cd "$(dirname "$0")"', *lines]
        temporary.write_text("\n".join(script) + "\n", encoding="utf-8")
    return session / FILE


def unpacked(archive: Path, folder: Path) -> Path:
    """Unpack what `bundle` packed into `folder`; returns history.json. The archive may come from a stranger.

    Raises UserError for an archive that holds anything else, or too much.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            files = [info for info in content.infolist() if _PACKED.fullmatch(info.filename)]
            if FILE not in [info.filename for info in files]:
                raise ValueError(f"no {FILE}")
            if len(files) > 2 * _LONGEST or sum(info.file_size for info in files) > _LARGEST:
                raise ValueError("too much")
            for info in files:
                path = folder / info.filename
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read(info))
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise UserError(f"{archive.name} is no history that the studio saved ({error})") from error
    return folder / FILE


def load(path: Path) -> list[tuple[Settings, Path]]:
    """Each edit's settings with its selection's file. A history may come from a stranger: only plain values are read.

    Raises UserError for a file that is no history.
    """
    try:
        edits = json.loads(path.read_text(encoding="utf-8"))["edits"]
        if not 0 < len(edits) <= _LONGEST:
            raise ValueError("no edits, or too many")
        return [_read(edit, path.parent) for edit in edits]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path.name} is no history of the studio; give the {FILE} that it wrote") from error


def _read(edit: Mapping[str, Any], folder: Path) -> tuple[Settings, Path]:
    words = {name: edit[name] for name in ("source", "target", "negative", "method", "prior")}
    if not all(
        isinstance(value, str) or (name, value) == ("negative", None) for name, value in words.items()
    ):
        raise ValueError("a prompt that is no text")
    steps, seed = edit["steps"], whole("seed", edit["seed"], least=0)
    steps = None if steps is None else whole("steps", steps, least=1)
    stop = edit.get("stop_after")
    stop = None if stop is None else whole("stop_after", stop, least=1)
    strength = number("strength", edit["strength"], least=0, most=STRONGEST)
    selection = (folder / str(edit["selection"])).resolve()
    if folder.resolve() not in selection.parents:
        raise ValueError("a selection outside the history's folder")
    return Settings(**words, steps=steps, seed=seed, strength=strength, stop_after=stop), selection
