"""Small folders in PIE-Bench's own layout, written by hand, not by the code under test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image


def entry(image_path: str = "2_add_object_80/1_artificial/211000000000.jpg", **columns) -> dict:
    """An entry whose mask is the rectangle of rows 100-102 and columns 50-59."""
    return {
        "image_path": image_path,
        "original_prompt": "a [round] cake on a table",
        "editing_prompt": "a [square] cake on a table",
        "editing_instruction": "Make the cake square",
        "editing_type_id": "2",
        "blended_word": "cake cake",
        "mask": [100 * 512 + 50, 10, 101 * 512 + 50, 10, 102 * 512 + 50, 10],
    } | columns


def write(folder: Path, entries: dict, *, size: tuple[int, int] = (512, 512)) -> Path:
    """mapping_file.json and a JPEG per entry."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mapping_file.json").write_text(json.dumps(entries))
    for number, item in enumerate(entries.values()):
        if not isinstance(item, dict) or not isinstance(item.get("image_path"), str):
            continue
        path = folder / "annotation_images" / item["image_path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        ramp = np.linspace(60, 180, size[0], dtype=np.uint8)[None, :, None]
        pixels = np.broadcast_to(ramp, (size[1], size[0], 3)) + np.uint8(10 * number)
        Image.fromarray(pixels).save(path, format="JPEG", quality=95)
    return folder
