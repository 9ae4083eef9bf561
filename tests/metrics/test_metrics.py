"""Metrics on cases with a known answer: pairing, sign, range."""

import math

import pytest
import torch

from gs_ssd.metrics.clip import clip_metrics, direction
from gs_ssd.metrics.edit import edit_metrics
from gs_ssd.metrics.image import psnr

COLOURS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "grey": (0.5, 0.5, 0.5)}


class ColourClip:
    """Features are the mean colour; prompts are colours. Every metric then has an obvious value."""

    def image_features(self, images):
        return torch.nn.functional.normalize(images.mean(dim=(1, 2)), dim=-1)

    def text_features(self, prompts):
        return torch.nn.functional.normalize(torch.tensor([COLOURS[p] for p in prompts]), dim=-1)


def pictures(*colours) -> torch.Tensor:
    return torch.tensor(colours).reshape(-1, 1, 1, 3).expand(-1, 4, 4, 3)


def test_direction_is_one_when_parallel_and_zero_without_an_edit():
    delta = torch.tensor([[0.3, -0.2]])
    assert direction(2 * delta, delta).item() == pytest.approx(1)
    assert direction(-delta, delta).item() == pytest.approx(-1)
    assert direction(torch.zeros_like(delta), delta).item() == 0


def test_clip_metrics_of_a_perfect_half_and_missing_edit():
    grey, red = [0.5, 0.5, 0.5], [1.0, 0.0, 0.0]
    arguments = {"source": "grey", "target": "red", "candidates": ["green"]}
    perfect = clip_metrics(ColourClip(), before=pictures(grey, grey), after=pictures(red, red), **arguments)
    assert perfect["clip_similarity"] == pytest.approx(1) and perfect["clip_direction"] == pytest.approx(1)
    assert perfect["retrieval_top1"] == 1
    half = clip_metrics(ColourClip(), before=pictures(grey, grey), after=pictures(red, grey), **arguments)
    assert half["retrieval_top1"] == 0.5 and half["clip_direction"] == pytest.approx(0.5)


def test_views_are_paired():
    """Equal sets in another order are an edit of every view, not none."""
    red, green = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]
    swapped = clip_metrics(
        ColourClip(), before=pictures(red, green), after=pictures(green, red), source="red", target="green"
    )
    assert swapped["clip_direction"] == pytest.approx(0, abs=1e-6)
    same = clip_metrics(
        ColourClip(), before=pictures(red, red), after=pictures(green, green), source="red", target="green"
    )
    assert same["clip_direction"] == pytest.approx(1)


def test_psnr():
    image = torch.full((2, 4, 4, 3), 0.5)
    assert psnr(image + 0.1, image) == pytest.approx(20)
    assert psnr(image, image) == math.inf
    mask = torch.zeros(2, 4, 4, dtype=torch.bool)
    mask[0] = True
    changed = image.clone()
    changed[1] += 0.3
    assert psnr(changed, image, mask) == math.inf and math.isnan(psnr(changed, image, ~mask & mask))


def test_background_is_what_the_editable_gaussians_do_not_cover():
    before = torch.rand(2, 16, 16, 3, generator=torch.Generator().manual_seed(0))
    alpha = torch.zeros(2, 16, 16)
    alpha[:, :8] = 0.9
    arguments = {"clip": None, "source": "a", "target": "b", "candidates": []}

    def measured(after, alpha=alpha, lpips=None):
        return edit_metrics(before=before, after=after, editable_alpha=alpha, lpips=lpips, **arguments)

    inside, outside = before.clone(), before.clone()
    inside[:, :8] = 1.0
    outside[:, 8:] = before[:, 8:] * 0.5
    kept = measured(inside)
    assert kept["background_psnr"] == 100 and kept["background_ssim"] == pytest.approx(1)
    assert kept["retrieval_top1"] is None and kept["background_lpips"] is None
    lost = measured(outside)
    assert lost["background_psnr"] == pytest.approx(psnr(outside[:, 8:], before[:, 8:]))
    assert lost["background_ssim"] < 0.95
    assert measured(inside, alpha=None)["background_psnr"] is None

    def distance(image, reference):  # stands in for a network: what it sees is what is tested
        return (image - reference).abs().max().item()

    assert measured(inside, lpips=distance)["background_lpips"] == 0
    assert measured(outside, lpips=distance)["background_lpips"] > 0.4


def test_the_worst_of_the_parts_that_must_stay():
    before = torch.full((1, 4, 4, 3), 0.5)
    after = before.clone()
    after[:, 1] += 0.1  # the skin
    after[:, 3] = 1.0  # what the prompt names
    rows = {"skin": 1, "clothes": 2}
    kept = {name: torch.zeros(1, 4, 4) for name in rows}
    for name, row in rows.items():
        kept[name][:, row] = 1.0
    arguments = {"clip": None, "source": "a", "target": "b", "candidates": [], "editable_alpha": None}
    metrics = edit_metrics(before=before, after=after, kept=kept, **arguments)
    assert metrics["unedited_psnr"] == pytest.approx(20)
    assert metrics["unedited_psnr_by_part"]["clothes"] == 100
    nowhere = {"skin": torch.full((1, 4, 4), 0.9)}  # no pixel is the part's alone
    assert edit_metrics(before=before, after=after, kept=nowhere, **arguments)["unedited_psnr"] is None


def test_bright_spots_are_new_burnt_out_pixels():
    before = torch.full((1, 4, 4, 3), 0.5)
    before[:, 0] = 1.0  # bright already
    after = before.clone()
    after[:, 1, :, 2] = 1.0  # one channel is enough
    arguments = {"clip": None, "source": "a", "target": "b", "candidates": [], "editable_alpha": None}
    assert edit_metrics(before=before, after=after, **arguments)["bright_spots"] == 0.25
    assert edit_metrics(before=before, after=before, **arguments)["bright_spots"] == 0
