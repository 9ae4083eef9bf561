"""Captioned pictures in groups: the members of a group share view, light and background.

Most of the groups are counterfactual pairs, the same head with one attribute or costume changed and captions that
differ accordingly; in the others all members are one head. Most show the light and the studio of the sample scenes.
"""

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from scripts.workshop.heads.attributes import counterfactual, sample_head
from scripts.workshop.heads.captions import caption
from scripts.workshop.heads.figure import build
from scripts.workshop.heads.render import FRAMING, Light, background, orbit, shade, splat
from scripts.workshop.make_face_scene import LIGHT, studio

DETAIL = 0.6  # disc density that is still closed at 128 px
PAIR_SHARE, STUDIO_SHARE = 0.85, 0.85
MUST = {"mustache": "beard"}  # pair axis -> attribute that captions of the pair must mention


@dataclass
class Sample:
    """Picture uint8 [S, S, 3], two captions, the pair's axis and the costume ("" for none)."""

    image: NDArray[np.uint8]
    captions: tuple[str, str]
    axis: str
    costume: str


def sample_view(rng: np.random.Generator) -> tuple[float, float]:
    """Yaw and pitch in degrees: all around, with the front twice as likely as the back."""
    yaw = rng.uniform(-75, 75) if rng.random() < 0.3 else rng.uniform(-180, 180)
    return yaw, rng.uniform(-12, 20)


def sample_group(
    rng: np.random.Generator, size: int, views: int = 4, axis: str = ""
) -> list[tuple[Sample, Sample]]:
    """Return `views` pairs; the two members of a single's pair are different views of one head.

    With `axis` it is a counterfactual pair that changes this.
    """
    head = sample_head(rng, costume_share=0.45)
    pair = rng.random() < PAIR_SHARE or axis != ""
    heads = counterfactual(head, rng, axis) if pair else (head, head, "")
    axis = heads[2]
    figures = [build(h, DETAIL) for h in heads[: 2 if pair else 1]]
    in_studio = rng.random() < STUDIO_SHARE
    light = LIGHT if in_studio else Light.sample(rng)
    discs = [(f.position, f.normal, f.sigma, shade(f.albedo, f.normal, f.gloss, light)) for f in figures]
    if in_studio:
        discs = [tuple(np.concatenate(column) for column in zip(d, studio())) for d in discs]
    out = []
    for _ in range(views):
        wall, members = background(rng, size), []
        yaw, pitch = sample_view(rng)
        distance = FRAMING.distance * rng.uniform(0.95, 1.08)
        target = np.array(FRAMING.target) + rng.normal(0, 0.05, 3)
        wording = int(rng.integers(2**31))
        for k in range(2):
            if not pair and k:
                yaw, pitch = sample_view(rng)
            camera = orbit(yaw, pitch, size, distance, target)
            picture = splat(camera, *discs[k if pair else 0], wall)
            words = tuple(
                caption(heads[k], np.random.default_rng(wording + v), yaw, MUST.get(axis, axis))
                for v in range(2)
            )
            members.append(
                Sample((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8), words, axis, heads[k].costume)
            )
        out.append(tuple(members))
    return out


def write_shard(path: Path, seed: int, groups: int, size: int) -> Path:
    """Render `groups` groups into `path`.npy (uint8 [2 M, S, S, 3], partners adjacent) and `path`.json (words)."""
    rng = np.random.default_rng(seed)
    samples = [s for _ in range(groups) for pair in sample_group(rng, size) for s in pair]
    np.save(path.with_suffix(".npy"), np.stack([s.image for s in samples]))
    words = {"captions": [s.captions for s in samples], "axes": [s.axis for s in samples]}
    words["costumes"] = [s.costume for s in samples]
    path.with_suffix(".json").write_text(
        json.dumps(words)
    )  # written last: its presence marks a finished shard
    return path


def fill_cache(folder: Path, shards: int, groups: int, size: int, seed: int, workers: int) -> list[Path]:
    """Make sure that `folder` holds `shards` shards; returns their paths without suffix."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"shard-{k:04d}" for k in range(shards)]
    missing = [(k, p) for k, p in enumerate(paths) if not p.with_suffix(".json").exists()]
    with ProcessPoolExecutor(workers) as pool:
        jobs = [pool.submit(write_shard, p, seed + k, groups, size) for k, p in missing]
        for job in tqdm(jobs, desc="render heads", disable=not jobs):
            job.result()
    return paths
