"""The studio without a page: a scene, a selection, edits one upon the other, and what can be done with them.

Every control of the page is one call of a `Workspace`, and so is every test. Calls may come from any thread. What the
user can mend raises UserError; what happens later, in the thread of an edit, is told by `messages`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from gs_ssd.checks import choice
from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.errors import UserError
from gs_ssd.results.folder import check_output_dir, make_output_dir, slug, unused
from gs_ssd.results.hold import Hold
from gs_ssd.scene.cameras import Cameras
from gs_ssd.scene.masks import File, Mask, Parts
from gs_ssd.scene.scene import Scene
from gs_ssd.session.config import Loaded, Opened, compose, opened, scene_edit
from gs_ssd.session.edit import SceneEdit
from gs_ssd.session.prompts import check_prompts
from gs_ssd.session.shorthands import options
from gs_ssd.studio import exports, history, preview
from gs_ssd.studio.frames import Frames, Look, renderer_of
from gs_ssd.studio.history import Entry, Settings
from gs_ssd.studio.runner import OVER, Runner
from gs_ssd.studio.selection import Given, Selection, Selector
from gs_ssd.studio.status import ERROR, INFO, WARNING, Message, Status
from gs_ssd.studio.timeline import Timeline

_MESSAGES = 50


@dataclass(frozen=True)
class Stage:
    """A scene to edit: the opened one, or what an edit made of it."""

    scene: Scene
    selector: Selector
    entry: Entry | None = None


class Workspace:
    """What one studio holds.

    Args:
        words: what opens the scene, as it is typed on the command line: "scene=face", "scene=my.ply", "scene.up=-y".
        folder: where sessions get their folders; None: outputs/studio.
        further: settings of every edit, as they are typed on the command line.
        device: auto, cpu or cuda.
        prior: a choice of priors beside the ready-made ones, such as a folder of a model.
        load: returns the prior in place of the settings' own, for tests and notebooks.
        given: is shown in place of what the words open, and `folder` is its session's own.
    """

    def __init__(
        self,
        words: Sequence[str] = ("scene=face",),
        *,
        folder: Path | None = None,
        further: Sequence[str] = (),
        device: str = "auto",
        prior: str | None = None,
        load: Callable[[], DiffusionPrior] | None = None,
        given: Opened | None = None,
    ) -> None:
        self.root = Path("outputs", "studio") if folder is None else Path(folder).expanduser()
        self.further = (*further, f"device={device}")
        self.methods = options("guidance")
        self.priors = [
            *([prior] if prior else []),
            *(o for o in options("diffusion") if o not in ("folder", prior)),
        ]
        self.prior = Loaded(load)
        self.messages: deque[Message] = deque(maxlen=_MESSAGES)
        self.keyframes: list[dict[str, Any]] = []
        self.runner: Runner | None = None
        self.version = 0
        self._said = 0
        self._busy, self._share = "", 0.0
        self._hold = Hold()
        self._lock = threading.RLock()
        self._working = threading.Lock()
        if given is None:
            self.open(words)
        else:
            self._begin(list(words), given, make_output_dir(self.root, scene="", prompt=""))

    # The scene

    def open(self, words: Sequence[str]) -> None:
        """Open another scene, in a new session; the old session's files stay."""
        self._check_idle("open another scene")
        given = opened([*words, *self.further])
        stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        check_output_dir(self.root)
        session = unused(self.root, f"{slug(given.scene.name)}_{stamp}")
        self._begin(history.placed(words, options("scene")), given, session)

    def open_file(self, path: Path) -> None:
        """Open a splat in any known format."""
        self.open([f"scene={path}"])

    def _begin(self, words: list[str], given: Opened, session: Path) -> None:
        with self._lock:
            self._hold.release()
            self._hold.take(session)
            self.words, self.session = words, session
            self.shown_words, self.targets = given.words, given.targets
            self.stages: Timeline[Stage] = Timeline(self._stage(given.scene, None), what="edit")
            self.keyframes.clear()
            self.frames = Frames(given.device)
            self._changed()

    def _stage(self, scene: Scene, entry: Entry | None) -> Stage:
        return Stage(scene, Selector(scene, changed=self._selected, renderer=renderer_of(scene)), entry)

    @property
    def stage(self) -> Stage:
        return self.stages.now

    @property
    def scene(self) -> Scene:
        """The scene as the edits so far have made it."""
        return self.stage.scene

    @property
    def entries(self) -> list[Entry]:
        """The edits that hold, in their order."""
        return [stage.entry for stage in self.stages.done if stage.entry is not None]

    # The selection

    @property
    def selector(self) -> Selector:
        """What selects in the scene as it is."""
        return self.stage.selector

    @property
    def selection(self) -> Selection:
        return self.selector.now

    def select_by_prior(self, mask: Mask, settings: Settings, mode: str = "replace") -> Selection:
        """Select by a mask that asks the diffusion prior of `settings`; takes seconds."""
        self._check_idle("ask the prior")
        with self.working("asking the prior"):
            prior = self.prior(self._composed(settings))
            self._warn_of_words(settings, prior)
            context = replace(
                self.selector.context, prior=prior, source=settings.source, target=settings.target
            )
            return self.selector.apply(mask, mode, context)

    @property
    def has_parts(self) -> bool:
        """Whether the scene's parts are known, and are those of its Gaussians still."""
        return self.scene.parts is not None

    def select_part(self, name: str, mode: str = "replace") -> Selection:
        """Select a labelled part of a sample scene, in what an edit made of it too."""
        return self.selector.apply(self._part(name), mode)

    def _part(self, name: str) -> Mask:
        if self.scene.parts is None:
            raise UserError("this scene's parts are not known; select with another tool")
        mask: Mask = Parts(str(self.scene.parts), [name])
        for entry in self.entries:
            mask = Given(entry.descended(mask(entry.source.gaussians)))
        return mask

    def _selected(self, before: Selection, now: Selection) -> None:
        if now.count == len(now.chosen) and now.made_by != before.made_by:
            self.say(INFO, "everything is selected, so nothing is protected")
        self._changed()

    # Edits

    def start(self, settings: Settings) -> None:
        """Start an edit of the selection. Raises UserError for what can't be edited; the scene is then as it was."""
        choice("method", settings.method, self.methods)
        choice("prior", settings.prior, self.priors)
        cfg = self._composed(settings)
        with self._lock:
            self._check_idle("start another edit")
            selection = self.selection
            if not selection.count:
                raise UserError("the selection is empty, so nothing may change; select something first")
            source = replace(self.scene, editable=selection.chosen)

            def make() -> SceneEdit:
                prior = self.prior(cfg)
                self._warn_of_words(settings, prior)
                return scene_edit(cfg, lambda: prior, scene=source)

            def finished(edit: SceneEdit | None, problem: str | None) -> None:
                self._keep(settings, source, edit, problem)

            self.runner = Runner(settings.stop_after)
            self.runner.start(make, finished)
            self._changed()

    def follow(self, edit: SceneEdit) -> Runner:
        """Show an edit that somebody else pulls, and steer it through what is returned."""
        self.runner = Runner()
        self.runner.begin(edit)
        return self.runner

    def pause(self) -> None:
        self._running().pause()

    def resume(self) -> None:
        self._running().resume()

    def stop(self) -> None:
        """End the edit after the step at hand; what there is is kept."""
        self._running().stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until no edit runs; returns whether that is so."""
        return self.runner is None or self.runner.join(timeout)

    def _running(self) -> Runner:
        if self.runner is None or self.runner.state == OVER:
            raise UserError("no edit is running")
        return self.runner

    def _check_idle(self, what: str) -> None:
        if self.runner is not None and self.runner.state != OVER:
            raise UserError(f"an edit is {self.runner.state}; stop it before you {what}")

    def _composed(self, settings: Settings) -> Any:
        words = [word for word in self.words if not word.startswith(("scene.mask", "mask"))]
        return compose([*words, *self.further, *settings.words()])

    def _warn_of_words(self, settings: Settings, prior: DiffusionPrior) -> None:
        for warning in check_prompts(prior, source=settings.source, target=settings.target):
            self.say(WARNING, warning)

    def _keep(self, settings: Settings, source: Scene, edit: SceneEdit | None, problem: str | None) -> None:
        """The end of an edit, in its thread: what came of it becomes the scene."""
        if problem is not None:
            self.say(ERROR, problem)
        if edit is None or not edit.reports:
            if problem is None:
                self.say(INFO, "stopped before the first step: nothing has changed")
            self._changed()
            return
        result = edit.finish()
        steps = len(result.reports)
        if steps < result.num_steps:
            settings = replace(settings, stop_after=steps)
        with self._lock:
            entry = Entry(self.stages.position + 1, settings, source, result, settings.strength)
            self._push(entry)
        self.say(INFO, f"edited {steps} of {result.num_steps} steps in {result.seconds:.0f} s")

    def _push(self, entry: Entry) -> None:
        entry.save(self.session)
        self.stages.push(self._stage(entry.scene(), entry))
        self._save()
        self._changed()

    def _save(self) -> None:
        history.save(self.entries, self.words, self.session, self.further)

    def undo(self) -> None:
        """Take the last edit back."""
        self._move(lambda: self.stages.undo())

    def redo(self) -> None:
        """The counterpart of `undo`."""
        self._move(lambda: self.stages.redo())

    def _move(self, move: Callable[[], Stage]) -> None:
        with self._lock:
            self._check_idle("undo or redo")
            move()
            self._save()
            self._changed()

    def set_strength(self, strength: float) -> None:
        """Keep more or less of the last edit: 0 is its source, 1 the edit, up to 1.5."""
        with self._lock:
            self._check_idle("change the strength of the last one")
            entry = self.stage.entry
            if entry is None:
                raise UserError("there is no edit yet whose strength could change")
            if strength == entry.strength:
                return
            changed = entry.with_strength(strength)
            self.stages.replace(self._stage(changed.scene(), changed))
            self._save()
            self._changed()

    # The history

    def commands(self) -> list[str]:
        """The command lines that do the edits again."""
        return history.commands(self.entries, self.words, self.further)

    def save_history(self) -> Path:
        """Write the edits' settings, selections and commands as one .zip into the session's folder; returns it."""
        if not self.entries:
            raise UserError("there is no edit yet that could be saved")
        self._save()
        selections = [f"{entry.number:02d}/selection.npy" for entry in self.entries]
        return exports.bundle(self.session, [history.FILE, "replay.sh", *selections], "history.zip")

    def replay(self, path: Path) -> None:
        """Do the edits of a saved history (its .zip, or history.json) on the scene as it is; waits for each."""
        if path.suffix == ".zip":
            path = history.unpacked(path, path.with_suffix(""))
        edits = history.load(path)
        for number, (settings, selection) in enumerate(edits, start=1):
            done = len(self.entries)
            self.selector.apply(File(selection))
            self.start(settings)
            self.wait()
            entry = self.stage.entry
            if len(self.entries) == done or entry is None or entry.settings.stop_after != settings.stop_after:
                raise UserError(
                    f"the history ended with edit {number} of {len(edits)}, which was not finished"
                )

    # Looking

    def status(self) -> Status:
        with self._lock:
            runner, entry = self.runner, self.stage.entry
            over = runner is None or runner.state == OVER
            return Status(
                state="idle" if over else runner.state,  # type: ignore[union-attr]
                step=0 if runner is None else len(runner.reports),
                num_steps=0 if runner is None else runner.num_steps,
                seconds_left=None if over else runner.seconds_left,  # type: ignore[union-attr]
                busy=self._busy,
                share=self._share,
                scene=self.scene.name,
                gaussians=len(self.scene),
                selected=self.selection.count,
                edits=tuple(stage.entry.title for stage in self.stages.states if stage.entry is not None),
                position=self.stages.position,
                strength=1.0 if entry is None else entry.strength,
                version=self.version,
            )

    def curves(self) -> tuple[list[int], list[float], list[int]]:
        """Steps, losses and timesteps of the edit that runs, or ran last."""
        reports = [] if self.runner is None else list(self.runner.reports)
        return (
            [report.step for report in reports],
            [report.loss for report in reports],
            [report.t for report in reports],
        )

    def picture(self, camera: Cameras, look: Look) -> np.ndarray:
        """What a camera sees, uint8 [H, W, 3]: the edit while it runs, else the scene as the edits have made it."""
        with self._lock:
            stage, runner = self.stage, self.runner
            snapshot = None if runner is None or runner.state == OVER else runner.snapshot
        scene, before = stage.scene, None if stage.entry is None else stage.entry.source.gaussians
        if snapshot is not None:
            before, scene = scene.gaussians, replace(scene, gaussians=snapshot.gaussians)
        chosen = stage.selector.now.chosen
        return self.frames.picture(scene, camera, look, before=before, chosen=chosen)

    def preview(self, settings: Settings, camera: Cameras, steps: int = 60) -> tuple[np.ndarray, np.ndarray]:
        """(before, after): `settings`' edit of the picture that `camera` takes, uint8 [S, S, 3]; takes seconds."""
        self._check_idle("look at a preview")
        with self.working("editing the picture"):
            cfg = self._composed(settings)
            prior = self.prior(cfg)
            self._warn_of_words(settings, prior)
            return preview.edited_view(
                self.scene,
                camera,
                self.selection.chosen,
                cfg,
                prior,
                steps=steps,
                each=self._progress(steps),
            )

    # Files

    def export(self, suffix: str) -> Path:
        """Write the scene into the session's folder in one of `exports.FORMATS`; returns the file."""
        with self.working(f"writing the {suffix} file"):
            return exports.export_scene(self.scene, self.session, suffix)

    def add_keyframe(self, position: Sequence[float], target: Sequence[float], fov_degrees: float) -> int:
        """Remember a camera for the video; returns how many there are. `fov_degrees` spans the shorter side."""
        self.keyframes.append(
            {
                "position": [float(value) for value in position],
                "target": [float(value) for value in target],
                "fov_degrees": float(fov_degrees),
            }
        )
        self._changed()
        return len(self.keyframes)

    def clear_keyframes(self) -> None:
        self.keyframes.clear()
        self._changed()

    def film(self, *, seconds: float = 4.0, fps: float = 24.0, width: int = 640, height: int = 480) -> Path:
        """Render a video through the keyframes, or once around the object where there are none; returns the file."""
        frames = max(round(seconds * fps), 2)
        keyframes: Sequence[Mapping[str, Any]] = self.keyframes or exports.around(self.scene)
        with self.working("rendering the video"):
            return exports.export_video(
                self.scene,
                self.session,
                keyframes,
                renderer=renderer_of(self.scene, self.frames.device),
                device=self.frames.device,
                frames=frames,
                fps=fps,
                width=width,
                height=height,
                each=self._progress(frames),
            )

    # What is told

    def say(self, level: str, text: str) -> None:
        """A line for the user."""
        with self._lock:
            self._said += 1
            self.messages.append(Message(self._said, level, " ".join(text.split())))

    def since(self, number: int) -> list[Message]:
        """The messages after the one of that number."""
        with self._lock:
            return [message for message in self.messages if message.number > number]

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """While something takes seconds; only one such thing goes on at a time."""
        if not self._working.acquire(blocking=False):
            raise UserError(f"still {self._busy or 'working'}; wait for its end")
        self._busy, self._share = what, 0.0
        try:
            yield
        finally:
            self._busy = ""
            self._working.release()

    def _progress(self, total: int) -> Callable[[], None]:
        done = 0

        def each() -> None:
            nonlocal done
            done += 1
            self._share = done / total

        return each

    def _changed(self) -> None:
        self.version += 1

    def close(self) -> None:
        """Stop a running edit, wait for its end, and let go of the session's folder."""
        if self.runner is not None and self.runner.state != OVER:
            self.runner.stop()
            self.runner.join(60)
        self._hold.release()
