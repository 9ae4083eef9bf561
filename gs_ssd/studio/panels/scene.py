"""Which scene: a sample, or a file from this computer."""

from __future__ import annotations

from typing import Any

import viser

from gs_ssd import samples
from gs_ssd.scene.formats import FORMATS
from gs_ssd.studio.panels.panel import Panel
from gs_ssd.studio.uploads import forget, saved


class ScenePanel(Panel):
    def build(self) -> None:
        gui, call = self.gui, self.page.call
        self._sample = gui.add_dropdown("Sample", tuple(samples.SUBJECTS))
        sample = gui.add_button("Open the sample", icon=viser.Icon.CUBE, color="gray")
        sample.on_click(call(lambda event: self.workspace.open([f"scene={self._sample.value}"])))
        gui.add_markdown(f"Or a file of your own: {', '.join(FORMATS)}.")
        self._file = gui.add_upload_button("Open a file", icon=viser.Icon.UPLOAD)
        self._file.on_upload(call(self._upload))

    def _upload(self, event: Any) -> None:
        file = self._file.value
        forget(self._file)
        self.workspace.open_file(saved(self.workspace.session, file.name, file.content, tuple(FORMATS)))
