"""What every panel is."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from viser._messages import GuiUpdateMessage

from gs_ssd.studio.status import Status

if TYPE_CHECKING:
    from gs_ssd.studio.page import Page


class Panel:
    """Controls, made where it is made (inside a tab, or at the top)."""

    def __init__(self, page: Page) -> None:
        self.page, self.workspace, self.gui = page, page.workspace, page.gui
        self.build()

    def build(self) -> None:
        """Make the controls."""

    def refresh(self, status: Status) -> None:
        """Show the workspace's status; called a few times a second."""

    def opened(self) -> None:
        """Another scene is there."""


def put(handle: Any, **values: Any) -> None:
    """Set what differs: every assignment is a message to every browser."""
    for name, value in values.items():
        if getattr(handle, name) != value:
            setattr(handle, name, value)


def echo(handle: Any) -> None:
    """Show every browser the value that arrived here.

    viser's page sends at most one change in 50 ms: of two controls that change faster (where clicks pile up on a busy
    machine, or a script makes them) the first one's is lost, and its box shows what nobody was told.
    """
    gui = handle._impl.gui_api
    gui._websock_interface.queue_message(GuiUpdateMessage(handle._impl.uuid, {"value": handle.value}))


def small(text: str) -> str:
    """A line of small grey print as HTML."""
    return f'<div style="padding:0 1em 0.3em;font-size:0.8em;color:#777">{escape(text)}</div>'
