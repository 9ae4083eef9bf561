"""The full-size networks have the published sizes, and the acceptance script runs without a GPU."""

from __future__ import annotations

import subprocess
import sys

import diffusers
import pytest
import torch

from gs_ssd.assets import ROOT
from gs_ssd.diffusion.full_size import SD21, SD35, SDXL, _autoencoder


@pytest.mark.parametrize(
    "make, millions",
    [
        (lambda: diffusers.UNet2DConditionModel(use_linear_projection=True, **SD21), 865.9),
        (lambda: diffusers.UNet2DConditionModel(use_linear_projection=True, **SDXL), 2567.5),
        (lambda: diffusers.SD3Transformer2DModel(**SD35), 2243.2),
        (_autoencoder, 83.7),
    ],
    ids=["sd21", "sdxl", "sd35", "autoencoder"],
)
def test_published_parameter_counts(make, millions):
    with torch.device("meta"):
        network = make()
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, rel=0.001)


@pytest.mark.slow
def test_the_acceptance_script_runs_on_a_cpu(tmp_path):
    table = tmp_path / "table.md"
    arguments = ["--device", "cpu", "--tiny", "--steps", "1", "--out", str(table)]
    subprocess.run([sys.executable, str(ROOT / "scripts" / "gpu_acceptance.py"), *arguments], check=True)
    text = table.read_text()
    assert "| timesteps of the embedded loop | equal | equal |" in text
    assert all(
        name in text for name in ("sd21, 64 px", "sdxl, 64 px", "sd35, 64 px", "autoencoder in float16")
    )
