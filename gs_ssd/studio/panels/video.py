"""A flight through camera keyframes."""

from __future__ import annotations

import math
from typing import Any

import viser

from gs_ssd.errors import UserError
from gs_ssd.studio.panels.panel import Panel, put
from gs_ssd.studio.status import Status

SIZES = {
    "640 x 480": (640, 480),
    "1280 x 720": (1280, 720),
    "1920 x 1080": (1920, 1080),
    "512 x 512": (512, 512),
}


class VideoPanel(Panel):
    def build(self) -> None:
        gui, call = self.gui, self.page.call
        self._count = gui.add_markdown("")
        add = gui.add_button("Add this view", icon=viser.Icon.CAMERA_PLUS)
        add.on_click(call(self._add))
        clear = gui.add_button("Forget the views", icon=viser.Icon.TRASH, color="gray")
        clear.on_click(call(lambda event: self.workspace.clear_keyframes()))
        self._seconds = gui.add_slider("Seconds", 1.0, 60.0, 0.5, 4.0)
        self._size = gui.add_dropdown("Size", tuple(SIZES), initial_value="640 x 480")
        film = gui.add_button("Render and download", icon=viser.Icon.VIDEO)
        film.on_click(call(self._film))
        self._number = -1

    def _add(self, event: Any) -> None:
        client = event.client
        if client is None:
            raise UserError("the browser is gone")
        camera = client.camera
        shorter = (
            camera.fov if camera.aspect >= 1 else 2 * math.atan(math.tan(camera.fov / 2) * camera.aspect)
        )
        self.workspace.add_keyframe(camera.position, camera.look_at, math.degrees(shorter))

    def _film(self, event: Any) -> None:
        width, height = SIZES[self._size.value]
        path = self.workspace.film(seconds=self._seconds.value, width=width, height=height)
        self.page.download(event, path)

    def refresh(self, status: Status) -> None:
        count = len(self.workspace.keyframes)
        if count == self._number:
            return
        self._number = count
        if count < 2:
            text = "Turn to a view and add it; from two views on, the video flies through them. "
            text += "Without any, it goes once around the object." if count == 0 else "One view so far."
        else:
            text = f"{count} views: the video flies through them."
        put(self._count, content=text)
