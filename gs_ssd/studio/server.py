"""The studio behind viser: browsers come and go, pictures go out to them, the page's controls come in."""

from __future__ import annotations

import contextlib
import io
import math
import threading
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import viser
from viser._messages import ShareUrlDisconnect, ShareUrlRequest

from gs_ssd.errors import UserError
from gs_ssd.scene.cameras import Cameras
from gs_ssd.scene.views import fit_distance
from gs_ssd.studio.gate import Gate
from gs_ssd.studio.history import Settings
from gs_ssd.studio.page import Page
from gs_ssd.studio.painter import Painter
from gs_ssd.studio.status import ERROR, INFO
from gs_ssd.studio.uploads import Uploads
from gs_ssd.studio.workspace import Workspace

UPLOAD_MB = 1000
_TICK = 0.2  # seconds between looks at the workspace
_QUALITY = {True: 90, False: 70}  # of a JPEG: at rest, moving


class Studio:
    """A workspace in the browser, until it is closed.

    Args:
        gate: where the page is, and who may come in.
        upload_mb: the largest file that the page takes, in megabytes.
        started: what the page's boxes say at first.
    """

    def __init__(
        self,
        workspace: Workspace,
        gate: Gate,
        *,
        upload_mb: float = UPLOAD_MB,
        started: Settings | None = None,
    ) -> None:
        self.workspace = workspace
        self.started = started or Settings(workspace.shown_words or "", "")
        self.gate = gate
        with gate.guarding(), contextlib.redirect_stdout(io.StringIO()):  # viser greets in its own name
            self.viser = viser.ViserServer(
                host=gate.host, port=gate.port, label="gs_ssd studio", verbose=False
            )
        connection: Any = self.viser._websock_server
        for message in (ShareUrlRequest, ShareUrlDisconnect):  # no page may ask for a public tunnel
            connection.unregister_handler(message)
        self.viser.gui.configure_theme(
            show_logo=False, show_share_button=False, brand_color=(214, 98, 30), control_width="large"
        )
        self.viser.scene.world_axes.visible = False
        Uploads(self.viser, most=round(upload_mb * 1e6), refused=self._tell)
        self.painter = Painter(workspace, self._send)
        self.page = Page(self)
        self._opened: Path | None = None
        self._told = 0
        self._closed = threading.Event()
        self.viser.on_client_connect(self._came)
        self.viser.on_client_disconnect(self._went)
        self._tick()
        self._ticker = threading.Thread(target=self._run, name="studio ticker", daemon=True)
        self._ticker.start()
        gate.open = True

    @property
    def url(self) -> str:
        return self.gate.url

    def close(self) -> None:
        """End the edit that runs, and the server."""
        self._closed.set()
        self._ticker.join(5)
        self.painter.close()
        self.workspace.close()
        with contextlib.redirect_stdout(io.StringIO()):
            self.viser.stop()

    def camera(self, client_id: int) -> Cameras | None:
        """A browser's camera at its own size; None for one that is gone."""
        view = self.painter.view(client_id)
        return None if view is None else view.camera(1.0)

    # Browsers

    async def _came(self, client: viser.ClientHandle) -> None:
        async def moved(camera: viser.CameraHandle) -> None:
            self._place(client)

        client.camera.on_update(moved)
        self._place(client)

    def _place(self, client: viser.ClientHandle) -> None:
        camera = client.camera
        self.painter.place(
            client.client_id,
            position=tuple(float(value) for value in camera.position),
            wxyz=tuple(float(value) for value in camera.wxyz),
            fov=float(camera.fov),
            width=int(camera.image_width),
            height=int(camera.image_height),
        )

    async def _went(self, client: viser.ClientHandle) -> None:
        self.painter.forget(client.client_id)

    def _send(self, client_id: int, picture: np.ndarray, full: bool) -> bool:
        """Whether the client was there: one that is about to come, or go, gets no picture."""
        client = self.viser.get_clients().get(client_id)
        if client is not None:
            client.scene.set_background_image(picture, format="jpeg", jpeg_quality=_QUALITY[full])
        return client is not None

    def _tell(self, client_id: int, text: str) -> None:
        self.workspace.say(ERROR, text)

    # The workspace

    def _run(self) -> None:
        while not self._closed.wait(_TICK):
            try:
                self._tick()
            except Exception:  # a thread's end would be silent, and the page would stand still
                traceback.print_exc()

    def _tick(self) -> None:
        if self._opened != self.workspace.session:
            self._opened = self.workspace.session
            self._stand()
            self.page.opened()
            if not self.workspace.frames.exact:
                threading.Thread(target=self._prepare, name="studio kernels", daemon=True).start()
        self.page.refresh()
        for message in self.workspace.since(self._told):
            self._told = message.number
            self.page.tell(message)
        self.painter.touch()

    def _prepare(self) -> None:
        self.workspace.say(
            INFO, "compiling the renderer, once: about a minute. Until then the scene is shown as dots"
        )
        try:
            self.workspace.frames.prepare()
            self.workspace.say(INFO, "the renderer is compiled: pictures are exact from now on")
        except UserError as error:
            self.workspace.say(ERROR, str(error))

    def _stand(self) -> None:
        """Let every browser stand where the object fits, at its front."""
        scene = self.workspace.scene
        camera = scene.turn(1, size=64, elevation_degrees=5.0)
        fov = 2 * math.atan(32 / float(camera.Ks[0, 0, 0]))
        center = scene.frame.center
        back = camera.positions[0] - center
        position = center + back / back.norm() * fit_distance(scene.frame, math.degrees(fov))
        up = scene.frame.up.double().numpy()
        self.viser.scene.set_up_direction(up)
        initial = self.viser.initial_camera
        initial.position, initial.look_at, initial.up = position.numpy(), center.numpy(), up
        initial.fov, initial.near, initial.far = fov, 0.01 * scene.frame.radius, 1e3 * scene.frame.radius
        for client in self.viser.get_clients().values():
            with client.atomic():
                client.camera.up_direction = up
                client.camera.position, client.camera.look_at = position.numpy(), center.numpy()
                client.camera.fov = fov
