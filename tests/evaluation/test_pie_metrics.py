"""PIE-Bench's measures on edits whose numbers are known."""

from __future__ import annotations

import math

import pytest
import torch

from gs_ssd.evaluation.pie_metrics import COLUMNS, PUBLISHED_COLUMNS, PieMetrics
from gs_ssd.evaluation.pie_report import markdown, means, published
from gs_ssd.metrics.clip_score import clip_score

PROMPT = "a photo of a clown"


@pytest.fixture(scope="module")
def measure() -> PieMetrics:
    return PieMetrics()


@pytest.fixture
def before() -> torch.Tensor:
    return 0.2 + 0.5 * torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def mask() -> torch.Tensor:
    """The left quarter may change."""
    mask = torch.zeros(64, 64, dtype=torch.bool)
    mask[:, :16] = True
    return mask


def test_changes_inside_the_mask_leave_the_background(measure, before, mask):
    after = torch.where(mask[None, ..., None], 1 - before, before)
    values = measure(before, after, mask, PROMPT)
    assert values["mse"] == values["judge_distance"] == 0
    assert values["psnr"] == 100
    assert values["ssim"] == pytest.approx(1, abs=1e-6)
    assert values["judge_structure"] > 0  # of the whole picture


def test_background_is_averaged_over_the_whole_frame(measure, before, mask):
    """A change by 0.1 everywhere counts in three quarters of the frame: MSE 0.0075, not 0.01."""
    values = measure(before, before + 0.1, mask, PROMPT)
    assert values["mse"] == pytest.approx(0.0075, rel=1e-4)
    assert values["psnr"] == pytest.approx(-10 * math.log10(0.0075), rel=1e-4)
    assert values["ssim"] < 1


def test_the_edited_part_is_scored_against_black(measure, before, mask):
    after = before.flip(2)
    values = measure(before, after, mask, PROMPT)
    black = after.clone()
    black[:, :, 16:] = 0
    assert values["judge_edited"] == pytest.approx(clip_score(measure.clip, black, PROMPT))
    assert values["judge_whole"] == pytest.approx(clip_score(measure.clip, after, PROMPT))


def test_a_mask_of_everything_has_no_background(measure, before, mask):
    values = measure(before, before, torch.ones_like(mask), PROMPT)
    assert [values[name] for name in ("psnr", "mse", "ssim", "judge_distance")] == [None] * 4
    assert values["judge_structure"] == 0
    assert values["judge_edited"] == pytest.approx(values["judge_whole"])


def test_a_stand_in_never_takes_a_published_name(measure, before, mask):
    values = measure(before, before, mask, PROMPT)
    assert set(values) - {"psnr", "mse", "ssim"} == {
        *("judge_structure", "judge_distance", "judge_whole", "judge_edited"),
    }
    assert set(values) <= set(COLUMNS)


def test_models_that_are_named_give_the_published_columns(before, mask):
    from gs_ssd.evaluation.pie_metrics import JUDGE

    named = PieMetrics(clip=str(JUDGE), structure=str(JUDGE))(before, before.flip(1), mask, PROMPT)
    assert set(named) == {"distance", "clip_whole", "clip_edited", "psnr", "mse", "ssim"}


def test_compat_changes_the_structure_distance_alone(measure, before, mask):
    habits = PieMetrics(compat=True)(before, before.flip(1), mask, PROMPT)
    ours = measure(before, before.flip(1), mask, PROMPT)
    changed = {name for name in ours if ours[name] != pytest.approx(habits[name], rel=1e-6)}
    assert changed == {"judge_structure"}


def test_means_leave_out_what_was_not_measured():
    measured = [{"psnr": 20.0, "mse": 0.01}, {"psnr": None, "mse": 0.03}, {"psnr": 30.0}]
    rows = [{"prompt": number} | values for number, values in enumerate(measured)]
    assert means(rows) == {"psnr": 25.0, "mse": 0.02}
    assert means([{"psnr": None}]) == {"psnr": None}


def test_table_2():
    table = published()
    assert table["columns"] == list(PUBLISHED_COLUMNS)
    rows = {
        name: dict(zip(table["columns"], numbers, strict=True)) for name, numbers in table["rows"].items()
    }
    assert len(rows) == 10
    assert max(rows, key=lambda name: rows[name]["clip_whole"]) == "SSD"
    for column in ("distance", "lpips", "mse"):
        assert min(rows, key=lambda name: rows[name][column]) == "SSD + CDS"
    for row in rows.values():  # the mean of PSNRs lies above the PSNR of a mean error (Jensen)
        if row["psnr"] is not None:
            assert row["psnr"] > -10 * math.log10(row["mse"] / 1e4)


def test_the_table_scales_and_marks_gaps():
    values = {"distance": 0.01474, "mse": 0.004509, "ssim": 0.8411, "clip_whole": 25.86, "psnr": None}
    rows = [{"variant": "dds", "prompt": category, "category": category} | values for category in (2, 9)]
    report = markdown(rows, data="two pictures")
    ours = next(line for line in report.splitlines() if line.startswith("| dds |"))
    assert ours == "| dds | 2 | 14.74 ± 0.00 | - | 45.09 ± 0.00 | 25.86 ± 0.00 | - | 84.11 ± 0.00 | - |"
    assert "| SSD + CDS (published) | 700 | 6.90 | 32.15 | 24.21 | 25.12 | - | - | - |" in report
    assert "| add object | 1 | 14.74 |" in report and "| change style | 1 | 14.74 |" in report
    assert len({line.count("|") for line in report.split("\n\n")[1].splitlines()}) == 1
