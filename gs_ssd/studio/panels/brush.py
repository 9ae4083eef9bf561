"""The brush: what is dragged over the picture becomes strokes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gs_ssd.studio.stroke import Stroke

if TYPE_CHECKING:
    from gs_ssd.studio.page import Page

_FAR = 1e5  # object radii; browsers draw up to a thousand of them


class Brush:
    """While it is on, a plain drag over the picture is a stroke; held with Alt, and while it is off, it turns the view.

    viser reports the drags of meshes alone. So there is one wherever the pointer may be: a sphere around everything.
    It lies beyond what the browser draws, and so does the arrow that viser draws along a drag; a pointer's ray finds
    it all the same.

    Args:
        begin: starts a stroke for a browser's id.
        ended: called after a stroke that touched something.
    """

    def __init__(self, page: Page, begin: Callable[[int], Stroke], ended: Callable[[], None]) -> None:
        self.page, self._begin, self._ended = page, begin, ended
        self._lock = threading.Lock()
        self._sheet: Any = None
        self._strokes: dict[int, Stroke] = {}

    def switch(self, on: bool) -> None:
        """Turn the brush on or off."""
        with self._lock:
            if self._sheet is not None:
                self._sheet.remove()
            self._sheet = self._spread() if on else None

    def _spread(self) -> Any:
        """The sphere that feels drags."""
        frame = self.page.workspace.scene.frame
        sheet = self.page.studio.viser.scene.add_icosphere(
            "/sheet",
            radius=_FAR * frame.radius,
            position=frame.center.numpy(),
            subdivisions=1,
            side="double",
            opacity=0.0,
            cast_shadow=False,
            receive_shadow=False,
        )
        led = self.page.call(self._led)

        async def dragged(event: Any) -> None:
            await asyncio.to_thread(
                led, event
            )  # a browser's next event waits for it, so that they keep their order

        sheet.on_drag("left")(dragged)
        return sheet

    def _led(self, event: Any) -> None:
        client = event.client_id
        if event.phase == "start":
            self._strokes[client] = self._begin(client)
        stroke = self._strokes.get(client)
        if stroke is None:
            return
        stroke.to(*event.end_screen_pos)
        self.page.studio.painter.stir(client)
        if event.phase == "end":
            del self._strokes[client]
            stroke.end()
            self._ended()
