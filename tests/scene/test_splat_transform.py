"""Other tools read what we write, and we read what they write: PlayCanvas' splat-transform, value by value.

Runs where Node and `npm install --global @playcanvas/splat-transform` (or a folder of it on PATH) are. Up to 2.7.1 it
turned a .spz to right-up-back, as Niantic describes it; 3.4.2 to 3.7.0 leave it as in the .ply, and name no axes.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from gs_ssd.scene import Gaussians, load_gaussians, save_gaussians
from gs_ssd.scene.formats import spz
from tests.scene.layouts import extended_spz
from tests.synthetic import random_gaussians

TOOL = shutil.which("splat-transform")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(TOOL is None, reason="splat-transform (npm) is not installed"),
]
VERSION = subprocess.getoutput("splat-transform --version") if TOOL else ""  # says it on stderr
AXES = "RUB" if re.search(r"\bv[12]\.", VERSION) else "RDF"
# Two readers of the same bytes may differ by float32 rounding only.
EXACT = {"means": 2e-6, "scales": 1e-5, "sh0": 1e-5, "shN": 1e-5}


def transform(*arguments: object) -> None:
    command = [TOOL, "--quiet", "--overwrite", "--gpu", "cpu", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def unit(gaussians: Gaussians) -> torch.Tensor:
    return torch.nn.functional.normalize(gaussians.quats, dim=-1)


def assert_same(got: Gaussians, want: Gaussians, tolerances: dict[str, float], alpha: float = 1e-5) -> None:
    assert len(got) == len(want) and got.sh_degree == want.sh_degree
    for name, tolerance in tolerances.items():
        torch.testing.assert_close(getattr(got, name), getattr(want, name), atol=tolerance, rtol=0)
    torch.testing.assert_close(got.opacities.sigmoid(), want.opacities.sigmoid(), atol=alpha, rtol=0)
    assert (unit(got) * unit(want)).sum(dim=-1).abs().min() > 0.9999


def sorted_like(got: Gaussians, want: Gaussians) -> Gaussians:
    """`got` in the order of `want`, by position."""
    _, index = cKDTree(got.means.numpy()).query(want.means.numpy())
    assert len(np.unique(index)) == len(want)
    return got[torch.from_numpy(index)]


def written(gaussians: Gaussians, path, **options) -> Gaussians:
    """Save, and give back what our own reader makes of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if options:
            spz.write(gaussians, path, axes=AXES, **options)
        else:
            save_gaussians(gaussians, path)
    return load_gaussians(path, spz_axes=AXES)


@pytest.mark.parametrize("degree", [0, 3])
@pytest.mark.parametrize("kind", ["a.ply", "a.compressed.ply", "a.splat", "v3.spz", "v4.spz", "a.sog"])
def test_it_reads_what_we_write(tmp_path, kind, degree):
    if kind.endswith(".sog"):
        pytest.importorskip("gaussforge")
    gaussians = random_gaussians(500, sh_degree=0 if kind == "a.splat" else degree)
    options = {"version": int(kind[1])} if kind.endswith(".spz") else {}
    ours = written(gaussians, tmp_path / kind, **options)
    transform(tmp_path / kind, tmp_path / "back.ply")
    theirs = load_gaussians(tmp_path / "back.ply")
    if kind == "a.splat":
        theirs = replace(theirs, shN=theirs.shN[:, :0])
    assert_same(theirs, ours, EXACT, alpha=1e-4)


@pytest.mark.parametrize("degree", [0, 3])
@pytest.mark.parametrize("kind", ["a.compressed.ply", "a.spz", "v3.spz", "a.sog"])
def test_we_read_what_it_writes(tmp_path, kind, degree):
    """Its own round trip is the oracle: what it reads of its file, we read, too."""
    save_gaussians(random_gaussians(500, sh_degree=degree), tmp_path / "in.ply")
    options = ["--spz-version", 3] if kind == "v3.spz" else []
    transform(tmp_path / "in.ply", tmp_path / kind, *options)
    transform(tmp_path / kind, tmp_path / "back.ply")
    theirs, ours = load_gaussians(tmp_path / "back.ply"), load_gaussians(tmp_path / kind, spz_axes=AXES)
    assert_same(ours, theirs, EXACT, alpha=1e-4)
    original = load_gaussians(tmp_path / "in.ply")
    loose = {"means": 2e-3, "scales": 0.1, "sh0": 0.1}
    assert_same(sorted_like(ours, original), original, loose, alpha=0.01) if degree == 0 else None


# The library of the format's authors, which splat-transform 3 brings along.
PLACES = [place / "@adobe" / "spz" / "dist" / "spz.js" for place in Path(TOOL or "/").resolve().parents]
LIBRARY = next((place for place in PLACES if place.is_file()), None)
DUMP = """
import { readFileSync } from "fs";
const spz = await (await import(process.argv[1])).default();
const values = [];
for (const name of process.argv.slice(2)) {
  const cloud = await spz.loadSpzFromBuffer(readFileSync(name), { to: spz.CoordinateSystem.RDF });
  values.push([cloud.positions, cloud.scales, cloud.rotations, cloud.colors, cloud.alphas, cloud.sh].map(x => [...x]));
}
console.log("\\n" + JSON.stringify(values));
"""


@pytest.mark.skipif(LIBRARY is None, reason="@adobe/spz (npm, splat-transform 3 needs it) is not installed")
def test_the_authors_library_reads_the_same_whatever_axes_a_spz_names(tmp_path):
    paths = []
    for number, axes in enumerate(("", *spz.AXES)):
        paths.append(tmp_path / f"{number}.spz")
        spz.write(random_gaussians(60, sh_degree=3), paths[-1], axes=axes or "RUB")
        if axes:
            tag = 0xADBE0003, number.to_bytes(4, "little")
            paths[-1].write_bytes(extended_spz(paths[-1].read_bytes(), tag))
    command = ["node", "--input-type=module", "-e", DUMP, LIBRARY.as_uri(), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for path, arrays in zip(paths, json.loads(done.stdout.splitlines()[-1]), strict=True):
        ours = load_gaussians(path)
        means, scales, quats, sh0, opacities, shN = map(torch.tensor, arrays)
        theirs = replace(
            ours,
            means=means.reshape(-1, 3),
            scales=scales.reshape(-1, 3),
            quats=quats.reshape(-1, 4).roll(1, dims=1),
            opacities=opacities.clamp(-14, 14),  # they let an opacity of 1 be infinite
            sh0=sh0.reshape(-1, 1, 3),
            shN=shN.reshape(60, -1, 3),
        )
        assert_same(ours, theirs, EXACT)
