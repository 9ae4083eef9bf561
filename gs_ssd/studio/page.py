"""The page: what is always there, and the panels. Every control is one call of the workspace."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import viser

from gs_ssd.errors import UserError
from gs_ssd.studio.panels.curves import CurvesPanel
from gs_ssd.studio.panels.edit import EditPanel
from gs_ssd.studio.panels.progress import ProgressPanel
from gs_ssd.studio.panels.result import ResultPanel
from gs_ssd.studio.panels.scene import ScenePanel
from gs_ssd.studio.panels.select import SelectPanel
from gs_ssd.studio.panels.video import VideoPanel
from gs_ssd.studio.status import ERROR, INFO, Message

if TYPE_CHECKING:
    from gs_ssd.studio.server import Studio

_COLOURS: dict[str, Any] = {"info": "blue", "warning": "yellow", "error": "red"}
_SECONDS = {"info": 6.0, "warning": 12.0, "error": 15.0}


class Page:
    """The controls of a studio, shared by all its browsers."""

    def __init__(self, studio: Studio) -> None:
        self.studio, self.workspace, self.gui = studio, studio.workspace, studio.viser.gui
        self.gui.main_panel.dock_right()
        self.gui.main_panel.set_width(430)
        self.progress = ProgressPanel(self)
        tabs = self.gui.add_tab_group()
        with tabs.add_tab("Edit", viser.Icon.WAND):
            self.edit = EditPanel(self)
        with tabs.add_tab("Select", viser.Icon.LASSO):
            self.select = SelectPanel(self)
        with tabs.add_tab("Result", viser.Icon.PHOTO_CHECK):
            self.result = ResultPanel(self)
        with tabs.add_tab("Video", viser.Icon.VIDEO):
            self.video = VideoPanel(self)
        with tabs.add_tab("Scene", viser.Icon.CUBE):
            self.scene = ScenePanel(self)
        curves = CurvesPanel(self)
        self.panels = [self.progress, self.edit, self.select, self.result, self.video, self.scene, curves]

    def call(self, function: Callable[[Any], Any]) -> Callable[[Any], None]:
        """A control's callback: what the user can mend becomes one line in the page."""

        def callback(event: Any) -> None:
            try:
                function(event)
            except UserError as error:
                self.workspace.say(ERROR, str(error))
            except Exception as error:
                traceback.print_exc()
                self.workspace.say(
                    ERROR, f"that went wrong ({type(error).__name__}: {error}); nothing is lost"
                )

        return callback

    def tell(self, message: Message) -> None:
        """Show a line to everybody."""
        self.progress.tell(message)
        for client in self.studio.viser.get_clients().values():
            client.add_notification(
                {"info": "Done", "warning": "Note", "error": "That did not work"}[message.level],
                message.text,
                auto_close_seconds=_SECONDS[message.level],
                color=_COLOURS[message.level],
            )

    def download(self, event: Any, path: Any) -> None:
        """Send a file of the session's folder to the browser that asked for it."""
        client = event.client
        if client is None:
            raise UserError("the browser that asked for the file is gone; it lies in the session's folder")
        client.send_file_download(path.name, path.read_bytes(), save_immediately=True)
        self.workspace.say(
            INFO, f"{path.name} ({path.stat().st_size / 1e6:.1f} MB) is saved, and kept in {path.parent}"
        )

    def refresh(self) -> None:
        """Show what the workspace says now."""
        status = self.workspace.status()
        for panel in self.panels:
            panel.refresh(status)

    def opened(self) -> None:
        """Another scene is there."""
        for panel in self.panels:
            panel.opened()
