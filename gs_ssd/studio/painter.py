"""The thread that draws: a picture for every browser whose view, or whose scene, has changed.

While a camera moves, small pictures are sent that cost about `MOVING` seconds; when it rests, a full one. While an edit
runs, drawing takes at most the share `SHARE` of the time, whatever a picture costs, so that the edit is hardly slowed.
"""

from __future__ import annotations

import math
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gs_ssd.errors import UserError
from gs_ssd.scene.cameras import Cameras
from gs_ssd.studio.frames import Look, camera_of
from gs_ssd.studio.runner import Runner
from gs_ssd.studio.workspace import Workspace

SHARE = 0.04  # of the time, while an edit runs
MOVING, MOVING_BESIDE_AN_EDIT = 0.05, 0.02  # seconds of a picture while the camera moves
REST = 0.25  # seconds without a camera message after which the camera rests
LARGEST = 1600  # pixels of a picture's longer side
_SMALLEST = 96
_LIVE = 0.5  # seconds between pictures of a running edit, at least
_PATIENCE = 1.0  # seconds after which the loop looks around by itself
_AGAIN = 0.1  # seconds until a picture is drawn again that its browser was not there to take


@dataclass
class View:
    """A browser's camera, and which picture it has."""

    position: tuple[float, ...]
    wxyz: tuple[float, ...]
    fov: float
    width: int
    height: int
    moved: float
    sent: tuple[object, ...] | None = None

    def camera(self, scale: float) -> Cameras:
        """The camera at `scale` times the browser's pixels, within bounds."""
        longer = max(self.width, self.height)
        scale = min(scale, LARGEST / longer)
        scale = max(scale, min(1.0, _SMALLEST / longer))
        width, height = (max(round(side * scale), 8) for side in (self.width, self.height))
        return camera_of(self.position, self.wxyz, self.fov, width, height)


class Painter:
    """Draws until it is closed.

    Args:
        send: takes a client's id, the picture and whether it is a full one; returns whether the client was there.
    """

    def __init__(self, workspace: Workspace, send: Callable[[int, np.ndarray, bool], bool]) -> None:
        self.workspace, self.look = workspace, Look()
        self._send = send
        self._views: dict[int, View] = {}
        self._wake = threading.Condition()
        self._open = True
        self._scale = 0.5  # of the browser's pixels, while the camera moves
        self._cost = 0.1  # seconds of the last full picture
        self._asked = 0.0  # when a picture of the running edit was last asked for
        self.pictures = 0
        self._thread = threading.Thread(target=self._run, name="studio painter", daemon=True)
        self._thread.start()

    def place(
        self,
        client: int,
        *,
        position: tuple[float, ...],
        wxyz: tuple[float, ...],
        fov: float,
        width: int,
        height: int,
    ) -> None:
        """Where a browser's camera stands now; the first call lets it in."""
        values = (*position, *wxyz, fov)
        if not (
            all(map(math.isfinite, values)) and 0.01 < fov < 3.1 and 0 < width < 20000 and 0 < height < 20000
        ):
            return
        with self._wake:
            known = self._views.get(client)
            moved = time.perf_counter() if known is not None else 0.0
            sent = None if known is None else known.sent
            self._views[client] = View(position, wxyz, fov, width, height, moved, sent)
            self._wake.notify()

    def forget(self, client: int) -> None:
        """A browser is gone."""
        with self._wake:
            self._views.pop(client, None)

    def view(self, client: int) -> View | None:
        with self._wake:
            return self._views.get(client)

    def show(self, look: Look) -> None:
        """Show something else to everybody."""
        with self._wake:
            self.look = look
            self._wake.notify()

    def stir(self, client: int) -> None:
        """What a browser sees changes quickly, as if its camera moved."""
        with self._wake:
            if view := self._views.get(client):
                view.moved = time.perf_counter()
            self._wake.notify()

    def touch(self) -> None:
        """The scene may have changed."""
        with self._wake:
            self._wake.notify()

    def close(self) -> None:
        with self._wake:
            self._open = False
            self._wake.notify()
        self._thread.join(5)

    def _run(self) -> None:
        while self._open:
            try:
                pause = self._draw_next()
            except UserError as error:
                self.workspace.say("error", str(error))
                pause = _PATIENCE
            except Exception:  # a thread's end would be silent, and every page would freeze
                traceback.print_exc()
                pause = _PATIENCE
            with self._wake:
                if self._open and pause > 0:
                    self._wake.wait(pause)

    def _draw_next(self) -> float:
        """Draw the most urgent picture; returns for how long nothing needs to be drawn."""
        with self._wake:
            views, look = dict(self._views), self.look
        if not views:
            return 60.0
        runner = self._running()
        live = runner is not None
        if runner is not None and time.perf_counter() - self._asked > max(_LIVE, self._cost / SHARE):
            runner.want_snapshot()
            self._asked = time.perf_counter()
        content = self._content(look)
        now = time.perf_counter()
        due = []
        for client, view in views.items():
            moving = now - view.moved < REST
            key = (content, view.position, view.wxyz, view.fov, view.width, view.height, moving)
            if view.sent != key and not (moving and view.sent == (*key[:-1], False)):
                due.append((not moving, client, view, key))
        if not due:
            resting = [REST - (now - view.moved) for view in views.values() if now - view.moved < REST]
            return max(min([*resting, 0.1 if live else _PATIENCE]), 0.01)
        still, client, view, key = min(due, key=lambda item: item[:2])
        cost, arrived = self._draw(client, view, look, full=still, beside=live)
        with self._wake:
            current = self._views.get(client)
            if current is not None and arrived:
                current.sent = key
        end = time.perf_counter() + cost * (1 / SHARE - 1)
        while (
            self._open and self._running() and time.perf_counter() < end
        ):  # an edit's last picture does not wait
            time.sleep(0.05)
        return 0.0 if arrived else _AGAIN

    def _running(self) -> Runner | None:
        """What edits the scene now."""
        runner = self.workspace.runner
        return runner if runner is not None and runner.state in ("running", "stopping") else None

    def _content(self, look: Look) -> tuple[object, ...]:
        workspace = self.workspace
        runner = workspace.runner
        step = None if runner is None or runner.snapshot is None else runner.snapshot.step
        return workspace.version, workspace.frames.exact, step, look

    def _draw(self, client: int, view: View, look: Look, *, full: bool, beside: bool) -> tuple[float, bool]:
        begun = time.perf_counter()
        picture = self.workspace.picture(view.camera(1.0 if full else self._scale), look)
        cost = time.perf_counter() - begun
        self.pictures += 1
        if full:
            self._cost = cost
        else:
            wanted = MOVING_BESIDE_AN_EDIT if beside else MOVING
            step = min(max(math.sqrt(wanted / max(cost, 1e-4)), 0.5), 1.5)
            self._scale = min(max(self._scale * step, 0.1), 1.0)
        arrived = self._send(client, picture, full)
        return time.perf_counter() - begun, arrived
