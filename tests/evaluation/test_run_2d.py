"""The 2D benchmark from a folder to its tables, with a prior whose edits are known."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest
import torch

from gs_ssd.diffusion.gaussian_prior import GaussianPrior
from gs_ssd.diffusion.timesteps import Linear
from gs_ssd.errors import UserError
from gs_ssd.evaluation.execute import execute
from gs_ssd.evaluation.images import fit_mask, pictures, plan_pictures, spread
from gs_ssd.evaluation.pages import write_grid
from gs_ssd.evaluation.report import Evaluation, write_results
from gs_ssd.evaluation.settings import composed
from gs_ssd.guidance import DDS as DDSGuidance
from gs_ssd.results.image_files import load_image
from gs_ssd.session.image import ImageEdit
from gs_ssd.session.prompts import Prompts
from tests.evaluation.pie_layout import entry, write

SIDE = 32
SOURCE, TARGET = "a round cake on a table", "a square cake on a table"
SHIFT = 0.1


@pytest.fixture
def prior() -> GaussianPrior:
    """Pictures of the target are 0.1 brighter than those of the source, all over."""
    grey = torch.full((3, SIDE, SIDE), 0.5)
    return GaussianPrior({SOURCE: grey, TARGET: grey + SHIFT, "": grey})


@pytest.fixture
def data(tmp_path):
    entries = {"200": entry("a.jpg"), "900": entry("b.jpg", editing_type_id="9", mask=[0, 512 * 512])}
    return write(tmp_path / "pie", entries)


DDS, IP2P = ["guidance=dds", "guidance.s=1"], ["guidance=ssd_ip2p", "guidance.w_id=0"]


def evaluate(data, prior, folder, compared=None, *, steps=200, limit=None, own=(), **measured):
    """The rows of a 2D evaluation whose runs are done in this process, by `prior`."""
    asked = {"clip": None, "structure": None, "lpips": False, "compat": False, "limit": limit} | measured
    typed = [f"pie_bench.{name}={'null' if value is None else value}" for name, value in asked.items()]
    cfg = composed(["experiment=table2", f"data={data}", *typed])
    compared = {"dds": DDS} if compared is None else compared
    common = ["diffusion=tiny", "device=cpu", "timesteps.ratio_min=0.02", f"steps={steps}", *own]
    chosen = pictures(cfg, compared, common)
    runs = plan_pictures(chosen, compared, common, folder=folder)
    for run in runs:
        if not run.finished:
            execute(run, prior=prior)
    write_results(Evaluation(cfg, runs, folder, dict.fromkeys(compared, 1.0), chosen=chosen))
    write_grid(runs, chosen.items, folder)
    return [run.row() for run in runs]


def test_a_known_edit_has_known_numbers(data, prior, tmp_path):
    """DDS moves a picture by the difference of the prompts' pictures: by 0.1 wherever the mask keeps it."""
    rows = evaluate(data, prior, tmp_path / "out")
    assert [(row["guidance"], row["key"], row["category"]) for row in rows] == [
        ("dds", "200", 2),
        ("dds", "900", 9),
    ]
    before = load_image(data / "annotation_images/a.jpg", size=SIDE)
    after = load_image(tmp_path / "out/runs/dds/200/add_object/after.png")
    torch.testing.assert_close(after, before + SHIFT, atol=3 / 255, rtol=0)
    # At 32 pixels the mask is the border and the one block that rows 100-102, columns 50-59 lie in.
    share = 1 - (4 * (SIDE - 1) + 1) / SIDE**2
    assert rows[0]["mse"] == pytest.approx(SHIFT**2 * share, rel=0.05)
    assert rows[1]["mse"] is None
    assert rows[0]["steps_done"] == 200 and rows[0]["error"] is None


def test_a_step_is_the_same_at_every_size(data):
    """At the 64x64 that the rate is for, and at a quarter of the area."""
    moved = []
    for side in (32, 64):
        grey = torch.full((3, side, side), 0.5)
        prior = GaussianPrior({SOURCE: grey, TARGET: grey + SHIFT, "": grey})
        edit = ImageEdit(
            data / "annotation_images/a.jpg", Prompts(SOURCE, TARGET), prior=prior, guidance=DDSGuidance(s=1),
            timesteps=Linear(), size=side, num_steps=1,
        )  # fmt: skip
        list(edit)
        moved.append((edit.picture - load_image(data / "annotation_images/a.jpg", size=side)).mean().item())
    t = Linear()(0, 1, prior.schedule, torch.Generator())
    slope = prior.schedule.alpha(t) / prior.schedule.sigma(t)  # G = slope·(X_source − X_target)
    assert moved == pytest.approx([0.1 * 2000 / 64**2 * slope * SHIFT] * 2, rel=1e-3)


class InstructedPrior(GaussianPrior):
    """The same for orders, with an image condition that it doesn't look at."""

    name, takes_image = "instructed", True

    def encode_condition(self, rgb):
        return self.encode(rgb)


def test_a_prior_that_takes_an_image_reads_the_instruction(tmp_path):
    data = write(tmp_path / "pie", {"200": entry("a.jpg")})
    grey = torch.full((3, SIDE, SIDE), 0.5)
    means = {SOURCE: grey, "": grey, TARGET: grey - SHIFT, "Make the cake square": grey + SHIFT}
    rows = evaluate(data, InstructedPrior(means), tmp_path / "out", {"ip2p": IP2P}, steps=5)
    before = load_image(data / "annotation_images/a.jpg", size=SIDE)
    after = load_image(tmp_path / "out/runs/ip2p/200/add_object/after.png")
    assert (after - before).mean() > 0.01
    assert rows[0]["target"] == TARGET  # what the picture is judged by


def test_a_missing_instruction_is_said_before_any_work(tmp_path):
    entries = {"200": entry("a.jpg"), "900": entry("b.jpg", editing_instruction=None)}
    data = write(tmp_path / "pie", entries)
    cfg = composed(["experiment=table2", f"data={data}"])
    with pytest.raises(UserError, match="entry 900 has no editing_instruction"):
        pictures(cfg, {"ip2p": IP2P}, ["diffusion=ip2p", "device=cpu"])
    grey = torch.full((3, SIDE, SIDE), 0.5)
    prior = InstructedPrior({SOURCE: grey, "": grey, TARGET: grey, "Make the cake square": grey})
    assert len(evaluate(data, prior, tmp_path / "out", {"ip2p": IP2P}, steps=1, limit=1)) == 1


def test_an_entry_without_an_edit_is_left_out(prior, tmp_path, capsys):
    same = entry(
        "b.jpg", original_prompt="A [round] cake on a table", editing_prompt="a round  cake on a [table]"
    )
    data = write(tmp_path / "pie", {"200": same, "300": entry("a.jpg")})
    rows = evaluate(data, prior, tmp_path / "out", steps=1, limit=1)
    assert [row["key"] for row in rows] == ["300"]
    note = "Left out, because editing_prompt equals original_prompt: 200."
    assert f"warning: {note}" in capsys.readouterr().err.splitlines()
    assert note in (tmp_path / "out/results.md").read_text()
    write(data, {"200": same})
    with pytest.raises(
        UserError, match="entry 200: editing_prompt equals original_prompt, so there is nothing"
    ):
        evaluate(data, prior, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_what_it_writes(data, prior, tmp_path):
    rows = evaluate(data, prior, tmp_path, steps=2)
    results = json.loads((tmp_path / "results.json").read_text())
    assert [row.pop("folder") for row in results["rows"]] == [
        "runs/dds/200/add_object",
        "runs/dds/900/change_style",
    ]
    assert results["rows"] == rows
    assert set(results["by_category"]["dds"]) == {"add object", "change style"}
    assert results["means"]["dds"]["mse"] == rows[0]["mse"]
    assert results["scales"]["mse"] == 1e4
    report = (tmp_path / "results.md").read_text()
    assert f"| dds | 2 | - | - | {rows[0]['mse'] * 1e4:.2f} |" in report  # of one picture: no standard error
    assert "| SSD (published) |" in report
    assert load_image(tmp_path / "grid.png").shape[2] > 2 * 192


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")
def test_a_measure_that_cant_be_had_is_a_gap_with_a_reason(data, prior, tmp_path, capsys):
    rows = evaluate(data, prior, tmp_path, steps=1, lpips=True)
    assert all("lpips" not in row for row in rows)
    assert "pip install torchvision" in capsys.readouterr().err
    assert "No LPIPS: LPIPS needs torchvision" in (tmp_path / "results.md").read_text()


def test_it_goes_on_where_it_stopped(data, prior, tmp_path):
    first = evaluate(data, prior, tmp_path, steps=2, limit=1)
    measured = tmp_path / "runs/dds/200/add_object/metrics.json"
    measured.write_text(json.dumps(json.loads(measured.read_text()) | {"seconds": 123.0}))
    both = evaluate(data, prior, tmp_path, steps=2)
    assert len(first) == 1 and len(both) == 2
    assert both[0]["seconds"] == 123.0  # not edited again
    assert both[0]["mse"] == first[0]["mse"]


def test_the_order_and_the_company_change_nothing(data, prior, tmp_path):
    alone = evaluate(data, prior, tmp_path / "alone", steps=3, limit=1)
    compared = {"other": ["guidance=dds", "guidance.s=2"], "dds": DDS}
    company = evaluate(data, prior, tmp_path / "company", compared, steps=3)
    assert alone[0]["mse"] == next(row for row in company if row["guidance"] == "dds")["mse"]


def test_other_settings_are_other_runs(data, prior, tmp_path):
    first = evaluate(data, prior, tmp_path, steps=2, limit=1)
    again = evaluate(data, prior, tmp_path, steps=3, limit=1)
    assert first[0]["steps_done"] == 2 and again[0]["steps_done"] == 3
    judged = evaluate(data, prior, tmp_path, steps=3, limit=1, compat=True)
    assert judged[0]["judge_structure"] != again[0]["judge_structure"]  # how it is measured counts too


def test_bad_input_is_said_before_any_work(data, prior, tmp_path):
    with pytest.raises(UserError, match=r"holds no mapping_file\.json"):
        evaluate(tmp_path, prior, tmp_path / "out")
    with pytest.raises(UserError, match="limit=0"):
        evaluate(data, prior, tmp_path / "out", limit=0)
    with pytest.raises(UserError, match=r"can't load the CLIP model .*; pie_bench\.clip=null"):
        evaluate(data, prior, tmp_path / "out", clip=str(tmp_path))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("limit", "expected"), [(None, [0, 1, 2, 3, 4, 5, 6]), (9, range(7)), (3, [0, 2, 4]), (1, [0])]
)
def test_spread(limit, expected):
    assert spread(list(range(7)), limit) == list(expected)


def test_a_small_mask_holds_all_that_may_change():
    mask = torch.zeros(512, 512, dtype=torch.bool)
    mask[9, 17] = True
    small = fit_mask(mask, 64, 64)
    assert small.nonzero().tolist() == [[1, 2]]
    assert torch.equal(fit_mask(mask, 512, 512), mask)
