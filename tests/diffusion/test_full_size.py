"""The full-size networks have the published sizes, and the acceptance script runs without a GPU."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from gs_ssd.assets import ROOT
from gs_ssd.diffusion.full_size import MODELS, full_size_parts

# Millions of parameters as published: network, text encoders, autoencoder.
PUBLISHED = {
    "sd15": (859.5, [123.1], 83.7),
    "sd21": (865.9, [340.4], 83.7),
    "ip2p": (859.5, [123.1], 83.7),
    "sdxl": (2567.5, [123.1, 694.7], 83.7),
    "sd35": (2243.2, [123.7, 694.7, 4762.3], 83.8),
    "flux": (11901.4, [123.1, 4762.3], 83.8),
    "flux2": (3875.5, [4022.5], 84.0),
    "z_image": (6154.9, [4022.5], 83.8),
    "pixart": (610.9, [4762.3], 83.7),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n == "sd21" else pytest.mark.slow) for n in MODELS]
)
def test_published_parameter_counts(name):
    parts = full_size_parts(name, dtype=torch.bfloat16, device="meta")
    network, texts, autoencoder = PUBLISHED[name]
    found = {
        part: sum(p.numel() for p in m.parameters()) / 1e6
        for part, m in parts.items()
        if hasattr(m, "parameters")
    }
    assert found.pop("vae") == pytest.approx(autoencoder, rel=0.001)
    assert found.pop("unet" if "unet" in found else "transformer") == pytest.approx(network, rel=0.001)
    assert list(found.values()) == pytest.approx(texts, rel=0.001)


@pytest.mark.parametrize("joined", [False, True])
def test_wheels_that_are_not_there_are_one_line(tmp_path, joined):
    """Before torch is imported."""
    arguments = [f"--wheels={tmp_path}"] if joined else ["--wheels", str(tmp_path)]
    script = str(ROOT / "scripts" / "gpu_acceptance.py")
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "holds no *.whl" in done.stderr
    (tmp_path / "broken-1-py3-none-any.whl").write_bytes(b"no wheel")
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "gather them with" in done.stderr


@pytest.mark.slow
def test_the_acceptance_script_runs_on_a_cpu(tmp_path):
    table = tmp_path / "table.md"
    arguments = ["--device", "cpu", "--tiny", "--steps", "1", "--out", str(table)]
    subprocess.run([sys.executable, str(ROOT / "scripts" / "gpu_acceptance.py"), *arguments], check=True)
    text = table.read_text()
    assert "| timesteps of the embedded loop | equal | equal |" in text
    rows = (
        "rasterizer, CPU against device",
        "sd21, 64 px",
        "sdxl, 128 px: least time",
        "sd35, 64 px: published",
    )
    switches = (
        "autoencoder in float16",
        "CUDA graph",
        "channels last",
        "compiled, channels last",
        "all of it",
    )
    assert all(f"| {name}" in text for name in (*rows, *switches)) and "FAILED" not in text
