"""Still pictures of a run: the before/after contact sheet and the loss curves."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gs_ssd.edit.loop import StepReport
from gs_ssd.files import atomic_path
from gs_ssd.results.video import to_uint8

MARGIN = 6
LABEL_HEIGHT = 26


def contact_sheet(rows: Sequence[tuple[str, Tensor]], path: str | os.PathLike) -> None:
    """Labelled rows of images: each row is (label, [V, H, W, 3])."""
    views, height, width = rows[0][1].shape[:3]
    row_height = LABEL_HEIGHT + height + MARGIN
    size = (views * (width + MARGIN) + MARGIN, len(rows) * row_height + MARGIN)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(15)
    for r, (label, images) in enumerate(rows):
        top = r * row_height + MARGIN
        draw.text((MARGIN, top), label, fill=(30, 30, 30), font=font)
        for v, image in enumerate(to_uint8(images)):
            sheet.paste(Image.fromarray(image), (MARGIN + v * (width + MARGIN), top + LABEL_HEIGHT - MARGIN))
    with atomic_path(path) as temporary:
        sheet.save(temporary)


def loss_curves(reports: Sequence[StepReport], path: str | os.PathLike) -> None:
    """The score loss, the anchor loss and the timestep over the steps."""
    steps = [report.step for report in reports]
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    curves: dict[str, tuple[list, str]] = {
        "score loss ½‖G‖²/B": ([report.loss for report in reports], "#c0392b"),
        "anchor loss": ([report.anchor_loss for report in reports], "#2471a3"),
        "timestep t": ([report.t for report in reports], "#555555"),
    }
    axes = figure.subplots(3, 1, sharex=True)
    for axis, (name, (values, colour)) in zip(axes, curves.items()):
        noisy = name.startswith("score")
        axis.plot(steps, values, color=colour, linewidth=0.6 if noisy else 1.5, alpha=0.35 if noisy else 1)
        if noisy and len(values) > 20:
            window = max(len(values) // 40, 5)
            kernel = np.ones(window) / window
            axis.plot(steps[window - 1 :], np.convolve(values, kernel, "valid"), color=colour, linewidth=1.5)
        axis.set_ylabel(name)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yscale("log")
    axes[-1].set_xlabel("step")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
