"""What to edit: the prompts, the method, the prior; start, and a preview on the current view."""

from __future__ import annotations

from typing import Any

import numpy as np
import viser

from gs_ssd.errors import UserError
from gs_ssd.results.blend import STRONGEST
from gs_ssd.studio.history import Settings
from gs_ssd.studio.panels.panel import Panel, echo, put
from gs_ssd.studio.status import Status

OWN = "your own words"


class EditPanel(Panel):
    def build(self) -> None:
        gui, call = self.gui, self.page.call
        started = self.page.studio.started
        self._ready = gui.add_dropdown("Ready-made", (OWN,), hint="fills in the target")
        self._ready.on_update(call(self._fill))
        self._source = gui.add_text("It shows", started.source, hint="what the scene shows now")
        self._target = gui.add_text("Make it", started.target, hint="what it should show")
        self._negative = gui.add_text(
            "But not", started.negative or "", hint="what it should not show; optional"
        )
        self._start = gui.add_button("Start the edit", icon=viser.Icon.PLAYER_PLAY)
        self._start.on_click(call(self._started))
        self._try = gui.add_button(
            "Try it on this view", icon=viser.Icon.PHOTO_BOLT, color="gray", hint="edits the picture: seconds"
        )
        self._try.on_click(call(self._preview))
        self._pictures = gui.add_image(np.full((8, 16, 3), 255, np.uint8), visible=False)
        with gui.add_folder("How", expand_by_default=True):
            self._strength = gui.add_slider(
                "Strength",
                0.0,
                STRONGEST,
                0.05,
                started.strength,
                hint="how much of the edit is kept; can be changed afterwards",
            )
            self._steps = gui.add_number(
                "Steps", started.steps or 0, min=0, max=100_000, step=1, hint="0: what suits the prior"
            )
            self._seed = gui.add_number("Seed", started.seed, min=0, max=2**31 - 1, step=1)
            self._method = gui.add_dropdown(
                "Method", tuple(self.workspace.methods), initial_value=started.method
            )
            self._prior = gui.add_dropdown("Prior", tuple(self.workspace.priors), initial_value=started.prior)

    def _started(self, event: object) -> None:
        for asked in (self._source, self._target, self._negative, self._steps, self._seed):
            echo(asked)
        self.workspace.start(self.settings())
        self.page.progress.tint(False)  # the edit is what there is to see now

    def settings(self) -> Settings:
        """What the boxes say."""
        return Settings(
            source=self._source.value.strip(),
            target=self._target.value.strip(),
            negative=self._negative.value.strip() or None,
            method=self._method.value,
            prior=self._prior.value,
            steps=int(self._steps.value) or None,
            seed=int(self._seed.value),
            strength=float(self._strength.value),
        )

    def _fill(self, event: object) -> None:
        if self._ready.value != OWN:
            put(self._target, value=self.workspace.targets[self._ready.value])

    def _preview(self, event: Any) -> None:
        camera = self.page.studio.camera(event.client_id)
        if camera is None:
            raise UserError("the view is not known yet; turn it a little and try again")
        before, after = self.workspace.preview(self.settings(), camera)
        self._pictures.image = np.concatenate([before, after], axis=1)
        put(self._pictures, visible=True)

    def refresh(self, status: Status) -> None:
        put(self._start, disabled=status.running)
        put(self._try, disabled=status.running or bool(status.busy))

    def opened(self) -> None:
        put(self._pictures, visible=False)
        put(self._ready, options=(OWN, *self.workspace.targets))
        source = self.workspace.shown_words
        if source is not None:
            put(self._source, value=source)
