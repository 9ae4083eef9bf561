"""The embedded default: a short edit with the shipped prior, which the independent judge must notice."""

import pytest

import gs_ssd
from gs_ssd.session.measure import Measures


@pytest.mark.slow
@pytest.mark.parametrize("prompt", ["clown", "gold"])
def test_a_short_edit_moves_towards_the_prompt(prompt):
    overrides = [
        f"prompt={prompt}",
        "steps=60",
        "optimizer.rates.sh0=0.02",
        "render.frames=2",
        "render.size=64",
    ]
    edit = gs_ssd.from_config("device=cpu", *overrides)
    list(edit)
    metrics = edit.finish().metrics
    assert metrics["clip_similarity"] > metrics["clip_similarity_before"] + 0.05
    assert metrics["clip_direction"] > 0.1
    if prompt == "gold":  # a clown's hair covers what was background
        assert metrics["background_psnr"] > 30


@pytest.mark.slow
def test_what_a_prompt_does_not_name_stays():
    kept = {}
    for hold in (0.0, 0.7):
        edit = gs_ssd.from_config("device=cpu", "prompt=mustache", "steps=60", f"guidance.hold={hold}")
        list(edit)
        result = edit.finish(Measures(keep=["skin", "hair"], views=6))
        kept[hold] = result.metrics["unedited_psnr"]
    assert kept[0.7] > kept[0.0] + 2
