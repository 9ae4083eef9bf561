"""A browser as the server sees it: a websocket client that speaks viser's protocol."""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import viser
import zstandard
from PIL import Image
from viser import _messages
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.waiting import PATIENCE


def arrived(address: str):
    """A websocket to a studio, which may still be starting."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return connect(
                address, subprotocols=[f"viser-v{viser.__version__}"], max_size=None, compression=None,
                open_timeout=PATIENCE, ping_interval=None,
            )  # fmt: skip
        except InvalidStatus as answer:
            assert answer.response.status_code == 503 and time.monotonic() < end
            time.sleep(0.1)


class Visitor:
    """Comes to a studio's URL, as a context; everything that it was told lies in `told`."""

    def __init__(self, url: str) -> None:
        self.socket, self.gone = arrived(url.replace("http://", "ws://")), False
        self.told: list[dict[str, Any]] = []
        self.picture: np.ndarray | None = None

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *error: object) -> None:
        if not self.gone:
            self.socket.close()

    def vanish(self) -> None:
        """Go as a laptop does whose lid is closed: without a word."""
        self.gone = True
        self.socket.socket.shutdown(socket.SHUT_RDWR)

    def say(self, message: _messages.Message) -> None:
        self.socket.send(msgspec.msgpack.encode(message.as_serializable_dict()))

    def look(
        self, position=(0.0, 0.0, -4.0), wxyz=(1.0, 0.0, 0.0, 0.0), width: int = 64, height: int = 48
    ) -> None:
        """Stand somewhere; the server knows no browser before."""
        self.say(
            _messages.ViewerCameraMessage(
                wxyz=wxyz, position=position, fov=0.7, near=0.01, far=100.0, image_height=height,
                image_width=width, look_at=(0.0, 0.0, 0.0), up_direction=(0.0, -1.0, 0.0),
            )
        )  # fmt: skip

    def listen(self, until: Callable[[Visitor], Any], seconds: float = PATIENCE) -> Any:
        """Take what the server says until `until` returns something, which is returned."""
        end = time.monotonic() + seconds
        while isinstance(found := until(self), bool | list | None) and not found:
            assert time.monotonic() < end, "the server did not say it"
            self._take(self.socket.recv(timeout=seconds))
        return found

    def _take(self, raw: bytes) -> None:
        length = int.from_bytes(raw[8:16], "little")
        content = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(raw[16 : 16 + length]))
        for message in content["messages"]:
            if message["type"] == "BackgroundImageMessage":
                if message["rgb_data"]:  # the first one clears what was there
                    encoded = io.BytesIO(message["rgb_data"])
                    self.picture = np.asarray(Image.open(encoded).convert("RGB"), dtype=float)
            else:
                self.told.append(message)

    def control(self, label: str) -> str:
        """The id of the control of that label."""

        def found(self: Visitor) -> str | None:
            named = [m for m in self.told if (m.get("props") or {}).get("label") == label]
            return named[-1]["uuid"] if named else None

        return self.listen(found)

    def press(self, label: str, value: object = True) -> None:
        """Press a button, or set a control, by its label."""
        self.say(_messages.GuiUpdateMessage(self.control(label), {"value": value}))

    def notes(self) -> list[str]:
        """What popped up."""
        return [m["props"]["body"] for m in self.told if m["type"] == "NotificationShowMessage"]
