"""PIE-Bench v1 (Ju et al., "PnP Inversion", ICLR 2024) in its public layout.

    mapping_file.json       {"000000000000": {"image_path": "0_random_140/000000000000.jpg", "original_prompt": ...,
                            "editing_prompt": ..., "editing_instruction": ..., "editing_type_id": "0",
                            "blended_word": ..., "mask": [start, length, start, length, ...]}, ...}
    annotation_images/      the pictures, 512x512, under their image_path

Brackets in a prompt mark what differs from the other one. The mask's runs lie on the picture's pixels row by row, 1 is
what may change; the outermost pixels always are, since the annotations err there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gs_ssd.errors import UserError
from gs_ssd.files import atomic_path
from gs_ssd.results.image_files import load_image

SIDE = 512
MAPPING, IMAGES = "mapping_file.json", "annotation_images"
CATEGORIES = (
    "random",
    "change object",
    "add object",
    "delete object",
    "change content",
    "change pose",
    "change color",
    "change material",
    "change background",
    "change style",
)
_PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")
_PROMPTS = ("original_prompt", "editing_prompt")
# What instructions start with, and prompts don't.
_ORDERS = ("add", "change", "convert", "delete", "give", "let", "make", "put", "remove", "replace", "turn")


@dataclass(frozen=True, eq=False)
class PieItem:
    """One edit of the benchmark.

    Attributes:
        key: its name in the mapping file.
        image: the picture's file, 512x512.
        source, target: the prompts, without brackets.
        category: index into CATEGORIES.
        mask: [512, 512] bool, what may change.
        instruction: the same edit as an order, for priors that take an image; None where the file has none.
    """

    key: str
    image: Path
    source: str
    target: str
    category: int
    mask: Tensor
    instruction: str | None = None


def decode_mask(runs: Sequence[int], *, name: str) -> Tensor:
    """The mask [512, 512] bool of runs (start, length, ...); `name` is what errors call it."""
    if not isinstance(runs, list) or len(runs) % 2 or any(type(n) is not int or n < 0 for n in runs):
        raise UserError(f"{name}: the mask is no list of (start, length) pairs of pixels")
    flat = torch.zeros(SIDE * SIDE, dtype=torch.bool)
    for start, length in zip(runs[::2], runs[1::2]):
        # The benchmark's own reader cuts a last run off at the end; a mask of another size overshoots by rows.
        if start >= len(flat) or start + length > len(flat) + SIDE:
            raise UserError(
                f"{name}: the mask's run ({start}, {length}) lies past the last of {SIDE}x{SIDE} pixels; "
                f"it is of another size, PIE-Bench's are {SIDE}x{SIDE}"
            )
        flat[start : start + length] = True
    mask = flat.reshape(SIDE, SIDE)
    mask[[0, -1]] = True
    mask[:, [0, -1]] = True
    return mask


def encode_mask(mask: Tensor) -> list[int]:
    """Runs (start, length, ...) of a mask [512, 512] bool."""
    if mask.shape != (SIDE, SIDE):
        raise ValueError(f"the mask is {list(mask.shape)}, expected [{SIDE}, {SIDE}]")
    edges = np.diff(np.concatenate([[0], mask.cpu().numpy().ravel().astype(np.int8), [0]]))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return np.stack([starts, ends - starts], axis=1).ravel().tolist()


def load_pie_bench(folder: str | Path) -> list[PieItem]:
    """All items in the file's order, after a look at every picture. Raises UserError."""
    folder = Path(folder).expanduser()
    path = folder / MAPPING
    if not path.is_file():
        raise UserError(
            f"{folder} holds no {MAPPING}; give the PIE-Bench folder that has it and {IMAGES}/ inside"
        )
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"can't read {path}: {error}") from error
    if not isinstance(entries, dict) or not entries:
        raise UserError(
            f"{path} must hold the benchmark's entries by name, such as {{'000000000000': {{...}}}}"
        )
    items = [_item(folder, key, entry) for key, entry in entries.items()]
    _check_columns(entries)
    missing = [item.image for item in items if not item.image.is_file()]
    if missing:
        raise UserError(f"{len(missing)} of {len(items)} images are missing; the first is {missing[0]}")
    for item in items:
        _check_picture(item.image)
    return items


def _item(folder: Path, key: str, entry: Any) -> PieItem:
    name = f"{MAPPING}, entry {key}"
    if not isinstance(entry, Mapping):
        raise UserError(f"{name} is {type(entry).__name__}, expected its columns by name")
    source, target = (_prompt(entry, column, name) for column in _PROMPTS)
    category = str(entry.get("editing_type_id"))
    if category not in map(str, range(len(CATEGORIES))):
        raise UserError(f"{name}: editing_type_id is {category!r}, expected 0 to {len(CATEGORIES) - 1}")
    image_path = entry.get("image_path")
    if not isinstance(image_path, str) or not image_path.lower().endswith(_PICTURE_SUFFIXES):
        raise UserError(f"{name}: image_path is {image_path!r}, expected a file below {IMAGES}/")
    if entry.get("mask") is None:
        raise UserError(f"{name}: the mask is missing, expected a list of (start, length) pairs of pixels")
    mask = decode_mask(entry["mask"], name=name)
    instruction = _plain(entry.get("editing_instruction")) or None
    return PieItem(key, folder / IMAGES / image_path, source, target, int(category), mask, instruction)


def _plain(value: Any) -> str:
    """The sentence without brackets; empty where the value is no text."""
    return " ".join(value.replace("[", "").replace("]", "").split()) if isinstance(value, str) else ""


def _prompt(entry: Mapping[str, Any], column: str, name: str) -> str:
    value = entry.get(column)
    if not _plain(value):
        raise UserError(
            f"{name}: {column} is {'missing' if value is None else repr(value)}, expected a sentence"
        )
    return _plain(value)


def _check_columns(entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise UserError where a prompt's column holds what belongs into another one.

    Columns are mistaken for one another in all entries. A few odd ones may be meant so: the benchmark is large.
    """
    for column in _PROMPTS:
        for other in ("image_path", "editing_type_id", "editing_instruction", "blended_word"):
            odd = [key for key, entry in entries.items() if _belongs(entry, column, other)]
            if 2 * len(odd) > len(entries):
                raise UserError(
                    f"{MAPPING}, entry {odd[0]}: {column} holds {entries[odd[0]][column]!r}, which belongs into "
                    f"{other}, as in {len(odd)} of {len(entries)} entries; "
                    f"it must say what the picture {'shows' if column == 'original_prompt' else 'shall show'}"
                )


def _belongs(entry: Mapping[str, Any], column: str, other: str) -> bool:
    """Whether the prompt in `column` looks like a text of the column `other`."""
    prompt, there = _plain(entry[column]), _plain(entry.get(other))
    words = prompt.lower().split()
    return {
        "image_path": prompt.lower().endswith(_PICTURE_SUFFIXES),
        "editing_type_id": prompt.isdecimal(),
        "editing_instruction": prompt == there or words[0] in _ORDERS,
        "blended_word": prompt == there or len(words) <= 2 < len(there.split()),  # a word of each prompt
    }[other]


def _check_picture(path: Path) -> None:
    """Raise UserError unless the whole picture can be read and has the masks' size."""
    height, width = load_image(path).shape[1:3]
    if (width, height) != (SIDE, SIDE):
        raise UserError(
            f"{path} has {width}x{height} pixels, its mask {SIDE}x{SIDE}; resize the image to that"
        )


def write_pie_bench(
    folder: str | Path, entries: Mapping[str, Mapping[str, Any]], pictures: Mapping[str, Image.Image]
) -> None:
    """Write entries by name, and pictures by image_path, as a folder that `load_pie_bench` reads."""
    folder = Path(folder)
    for image_path, picture in pictures.items():
        with atomic_path(folder / IMAGES / image_path) as temporary:
            picture.save(temporary, quality=95)
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(entry)}" for key, entry in entries.items())
    with atomic_path(folder / MAPPING) as temporary:
        temporary.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


def mark_difference(source: str, target: str) -> tuple[str, str]:
    """Both prompts with brackets about the words that differ, the way PIE-Bench writes them."""
    words = source.split(), target.split()
    shortest = min(map(len, words))
    head = next((i for i in range(shortest) if words[0][i] != words[1][i]), shortest)
    tail = next((i for i in range(shortest - head) if words[0][-1 - i] != words[1][-1 - i]), shortest - head)
    marked = []
    for prompt in words:
        middle = prompt[head : len(prompt) - tail]
        bracketed = [f"[{' '.join(middle)}]"] if middle else []
        marked.append(" ".join(prompt[:head] + bracketed + prompt[len(prompt) - tail :]))
    return marked[0], marked[1]
