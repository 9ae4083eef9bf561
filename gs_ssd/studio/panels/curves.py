"""How an edit goes: its loss and its timesteps. Below the tabs, so that they stay where they are when it appears."""

from __future__ import annotations

import numpy as np

from gs_ssd.studio.panels.panel import Panel, put
from gs_ssd.studio.status import Status

_POINTS = 300  # of a curve; more can't be told apart


class CurvesPanel(Panel):
    def build(self) -> None:
        self._folder = self.gui.add_folder("Loss and timestep", expand_by_default=True, visible=False)
        with self._folder:
            empty = np.zeros(1)
            self._plot = self.gui.add_uplot(
                (empty, empty, empty),
                (
                    {"label": "step"},
                    {"label": "loss", "stroke": "#d6621e", "width": 1.5, "scale": "loss"},
                    {"label": "timestep", "stroke": "#5b7fa6", "width": 1.5, "scale": "t"},
                ),
                scales={"x": {"time": False}},
                axes=({}, {"scale": "loss", "size": 60}, {"scale": "t", "side": 1, "grid": {"show": False}}),
                height=180,
                padding=(12, 0, 0, 0),  # the topmost number stands half above the plot
            )
        self._plotted = 0

    def refresh(self, status: Status) -> None:
        steps, losses, times = self.workspace.curves()
        count = min(len(steps), len(losses), len(times))
        if count == self._plotted or count < 2:
            return
        self._plotted = count
        chosen = np.unique(np.linspace(0, count - 1, min(count, _POINTS)).astype(int))
        self._plot.data = tuple(
            np.asarray(values[:count], float)[chosen] for values in (steps, losses, times)
        )
        put(self._folder, visible=True)
