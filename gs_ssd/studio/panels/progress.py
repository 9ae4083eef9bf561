"""What is always in sight: how far the edit is, pause and stop, undo and redo, what is shown, the last line said."""

from __future__ import annotations

from html import escape

from gs_ssd.studio.frames import Look
from gs_ssd.studio.panels.panel import Panel, put
from gs_ssd.studio.status import Message, Status

_COLOURS = {"info": "#555", "warning": "#8a5a00", "error": "#b00020"}


class ProgressPanel(Panel):
    def build(self) -> None:
        gui, workspace, call = self.gui, self.workspace, self.page.call
        self._line = gui.add_html("")
        self._bar = gui.add_progress_bar(0.0, visible=False)
        self._run = gui.add_button_group("Edit", ("Pause", "Resume", "Stop"), visible=False)
        self._run.on_click(call(self._pressed))
        self._undo = gui.add_button_group("Edits", ("Undo", "Redo"))
        self._undo.on_click(
            call(lambda event: {"Undo": workspace.undo, "Redo": workspace.redo}[self._undo.value]())
        )
        self._show = gui.add_button_group("Shown: edit", ("Edit", "Before", "Split"))
        self._show.on_click(call(self._look))
        self._split = gui.add_slider("Split at", 0.0, 1.0, 0.01, 0.5, visible=False)
        self._split.on_update(call(self._look))
        self._tint = gui.add_checkbox("Selection", False, hint="show it in orange, the rest paler")
        self._tint.on_update(call(self._look))
        self._said = gui.add_html("")
        self._message: Message | None = None

    def _pressed(self, event: object) -> None:
        workspace = self.workspace
        {"Pause": workspace.pause, "Resume": workspace.resume, "Stop": workspace.stop}[self._run.value]()

    def _look(self, event: object) -> None:
        show = self._show.value.lower()
        put(self._show, label=f"Shown: {show}")
        put(self._split, visible=show == "split")
        self.page.studio.painter.show(Look(show, self._split.value, self._tint.value))

    def tint(self, on: bool = True) -> None:
        """Show the selection, or don't."""
        put(self._tint, value=on)
        self._look(None)

    def tell(self, message: Message) -> None:
        colour = _COLOURS[message.level]
        put(
            self._said,
            content=f'<div class="gs-said" style="color:{colour};font-size:0.8em;padding:0 1em 0.4em">'
            f"{escape(message.text)}</div>",
        )

    def refresh(self, status: Status) -> None:
        put(
            self._line,
            content=f'<div class="gs-status" style="padding:0.4em 1em">{escape(line(status))}</div>',
        )
        busy = status.running or bool(status.busy)
        share = status.step / max(status.num_steps, 1) if status.running else status.share
        put(self._bar, visible=busy, value=round(100 * min(share, 1.0), 1), animated=share == 0)
        put(self._run, visible=status.running)


def line(status: Status) -> str:
    """The status in a line."""
    if status.state == "preparing":
        return "Preparing the edit: loading the prior …"
    if status.running:
        left = "" if status.seconds_left is None else f", {duration(status.seconds_left)} left"
        return f"{status.state.capitalize()}: step {status.step} of {status.num_steps}{left}"
    if status.busy:
        return f"{status.busy.capitalize()} …"
    share = 100 * status.selected / max(status.gaussians, 1)
    return (
        f"{status.scene}: {status.gaussians:,} Gaussians, {status.selected:,} selected ({share:.0f}\u202f%)"
    )


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
