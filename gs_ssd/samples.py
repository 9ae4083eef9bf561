"""The sample scenes that ship with the project: three heads in a plain studio. One unit is a decimetre."""

from __future__ import annotations

from typing import Any

SUBJECTS = {"face": "a man", "elder": "an old man", "woman": "a woman"}  # what each shows, as prompts call it
BACKGROUND = (0.6, 0.63, 0.67)
FRAME: dict[str, Any] = {
    "up": "-y",
    "center": (0.0, 0.35, 0.0),
    "radius": 1.5377,  # a 40 degree lens stands at 5.5 units, as in the embedded prior's training pictures
}
EDITABLE = ("skin", "hair", "moustache")  # head and neck; clothes and studio stay as they are
VIEWS: dict[str, Any] = {
    "count": 96,
    "azimuth_degrees": (-180.0, 180.0),
    "elevation_degrees": (-10.0, 18.0),
    "fov_degrees": (40.0, 40.0),
    "distance": (0.95, 1.08),
    "target_jitter": 0.05,
    "front_azimuth_degrees": 180.0,
}
VIEW_WORDS = {"front": ", front view", "side": ", side view", "back": ", from behind"}
