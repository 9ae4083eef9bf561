"""The embedded default: a short edit with the shipped prior, which the independent judge must notice."""

import json

import pytest

import train as front_door
from gs_ssd.cli.shorthands import expand
from tests.cli.test_configs import composed


@pytest.mark.parametrize("prompt", ["clown", "gold"])
def test_a_short_edit_moves_towards_the_prompt(prompt, tmp_path):
    overrides = [
        f"prompt={prompt}",
        "steps=60",
        "optimizer.rates.sh0=0.02",
        "render.frames=2",
        "render.size=64",
        "no_edit_guard=false",
    ]
    cfg = composed(*expand([*overrides, f"output_dir={tmp_path}"], cuda=False))
    assert front_door.run(cfg) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["clip_similarity"] > metrics["clip_similarity_before"] + 0.05
    assert metrics["clip_direction"] > 0.1
    assert metrics["background_psnr"] > 30
