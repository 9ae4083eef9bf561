"""The edits that were done one upon the other, as states and as commands that do them again."""

from __future__ import annotations

import json
import shlex
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


@dataclass(frozen=True)
class Settings:
    """What an edit is asked for. None takes what suits the prior and the method.

    Attributes:
        source, target, negative: the prompts.
        method, prior: as `guidance=` and `diffusion=` on the command line.
        steps, seed: how long, and of everything drawn.
        strength: how much of the edit is kept: 0 is the source, 1 the edit, up to 1.5.
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
    further: tuple[str, ...] = ()

    def words(self) -> list[str]:
        """The settings as they are typed on the command line; `strength` is none of them."""
        if self.steps is not None:
            whole("steps", self.steps, least=1, most=1_000_000)
        number("strength", self.strength, least=0, most=STRONGEST)
        words = [f"prompt.source={self.source}", f"prompt.target={self.target}"]
        words += [f"prompt.negative={self.negative}"] * (self.negative is not None)
        words += [f"guidance={self.method}", f"diffusion={self.prior}"]
        words += [f"steps={self.steps}"] * (self.steps is not None)
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


def commands(entries: Sequence[Entry], scene_words: Sequence[str]) -> list[str]:
    """The command lines that do `entries` again, to be typed in the session's folder; one edit starts from the last."""
    lines, words = [], list(scene_words)
    for entry in entries:
        folder = f"{entry.number:02d}"
        own = [*words, *entry.settings.words(), "mask=file", f"mask.path={folder}/selection.npy"]
        done = len(entry.result.reports)
        note = "" if done == entry.result.num_steps else f"  # was stopped after {done} steps"
        lines.append(_line("edit", [*own, f"output_dir={folder}"]) + note)
        last = f"{folder}/edited.ply"
        if entry.strength != 1:
            last = f"{folder}/blended.ply"
            lines.append(_line("blend", [f"run={folder}", f"strength={entry.strength:g}", f"output={last}"]))
        words = chained(scene_words, entry.source, last)
    return lines


def chained(scene_words: Sequence[str], scene: Scene, path: str) -> list[str]:
    """The words that open the file `path` as the scene that `scene_words` open, edited: with the same frame."""
    kept = [word for word in scene_words if not word.startswith(("scene.path=", "scene.mask", "scene.parts"))]
    if not any(word.startswith("scene=") and word[6:] in samples.SUBJECTS for word in kept):
        kept = ["scene=file", *(word for word in kept if not word.startswith("scene="))]
        center = ",".join(repr(float(value)) for value in scene.frame.center)
        kept += [f"scene.center=[{center}]", f"scene.radius={scene.frame.radius!r}"]
    return [*kept, f"scene.path={path}", "scene.mask=null", "scene.parts=null"]


def _line(command: str, words: Sequence[str]) -> str:
    return shlex.join(["gs-ssd", command, *words])


def save(entries: Sequence[Entry], scene_words: Sequence[str], session: Path) -> Path:
    """Write history.json and replay.sh, and each edit's selection beside them; returns history.json."""
    for entry in entries:
        write_selection(entry.source.editable, entry.folder(session) / "selection.npy")
    lines = commands(entries, scene_words)
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
    strength = number("strength", edit["strength"], least=0, most=STRONGEST)
    selection = (folder / str(edit["selection"])).resolve()
    if folder.resolve() not in selection.parents:
        raise ValueError("a selection outside the history's folder")
    return Settings(**words, steps=steps, seed=seed, strength=strength), selection
