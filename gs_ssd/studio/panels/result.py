"""What came of it: how much of it is kept, the files, the history."""

from __future__ import annotations

from html import escape

import viser

from gs_ssd.results.blend import STRONGEST
from gs_ssd.studio.exports import FORMATS
from gs_ssd.studio.panels.panel import Panel, put, small
from gs_ssd.studio.status import Status
from gs_ssd.studio.uploads import forget, saved


class ResultPanel(Panel):
    def build(self) -> None:
        gui, call, workspace = self.gui, self.page.call, self.workspace
        self._blend = gui.add_slider(
            "Strength", 0.0, STRONGEST, 0.05, 1.0, disabled=True, hint="of the last edit: 0 is its source"
        )
        self._strength = 1.0  # as the page was last told, or has told
        self._blend.on_update(call(self._keep))
        self._format = gui.add_dropdown("Format", tuple(FORMATS), initial_value=".ply")
        self._format.on_update(call(lambda event: self._describe()))
        self._what = gui.add_html("")
        save = gui.add_button("Download", icon=viser.Icon.DOWNLOAD)
        save.on_click(call(lambda event: self.page.download(event, workspace.export(self._format.value))))
        with gui.add_folder("History", expand_by_default=True):
            self._edits = gui.add_html("")
            history = gui.add_button("Save the history", icon=viser.Icon.HISTORY, color="gray")
            history.on_click(call(lambda event: self.page.download(event, workspace.save_history())))
            self._saved = gui.add_upload_button(
                "Do a saved one again", icon=viser.Icon.UPLOAD, color="gray", mime_type=".zip"
            )
            self._saved.on_upload(call(self._replay))
        self._describe()

    def _describe(self) -> None:
        put(self._what, content=small(FORMATS[self._format.value]))

    def _replay(self, event: object) -> None:
        file = self._saved.value
        path = saved(self.workspace.session, file.name, file.content, (".zip",))
        forget(self._saved)
        self.workspace.replay(path)

    def _keep(self, event: object) -> None:
        self._strength = float(self._blend.value)
        self.workspace.set_strength(self._strength)

    def refresh(self, status: Status) -> None:
        put(self._blend, disabled=status.running or status.position == 0)
        if abs(self._strength - status.strength) > 1e-6 and not self._blend.disabled:
            # Only what changed elsewhere: a value that the person has just set may not have been taken in yet.
            self._strength = status.strength
            put(self._blend, value=status.strength)
        put(self._edits, content=listing(status))


def listing(status: Status) -> str:
    """The edits in their order; those that were undone are pale."""
    if not status.edits:
        return small("No edit yet.")
    rows = [
        f'<li style="opacity:{1 if index < status.position else 0.4}">{escape(title)}</li>'
        for index, title in enumerate(status.edits)
    ]
    return f'<ol style="padding-left:2.4em;margin:0.4em 0;font-size:0.85em">{"".join(rows)}</ol>'
