"""The truth that the generator of the sample heads paints."""

from __future__ import annotations

import json

import pytest
import torch

from gs_ssd.evaluation import truths
from gs_ssd.evaluation.execute import execute
from gs_ssd.evaluation.report import no_truth_note
from gs_ssd.evaluation.runs import Case, plan
from gs_ssd.evaluation.settings import composed
from gs_ssd.scene import load_gaussians
from gs_ssd.scene.scene import Scene
from gs_ssd.session.edit import SceneEdit
from gs_ssd.session.prompts import Prompts
from tests.evaluation.test_evaluate import FAST

LONG = "reads 16: its end is ignored"  # the miniature, of a prompt


@pytest.mark.slow
def test_an_edit_that_does_nothing_has_walked_no_way_and_the_truth_all_of_it():
    prompts = Prompts("a photo of a man", "a gold statue of a man")
    with pytest.warns(UserWarning, match=LONG):
        result = SceneEdit(Scene.sample("face"), prompts, prior="tiny", num_steps=1).finish()
    found = truths.measure(result, scene="face", prompt="gold")
    assert found == pytest.approx(
        {"way": 0, "way_front": 0, "outline": 1, "outline_before": 1, "outline_source": 1}, abs=1e-6
    )
    (result.after,) = truths.truths("face", "gold")
    found = truths.measure(result, scene="face", prompt="gold")
    assert found == pytest.approx(
        {"way": 1, "way_front": 1, "outline": 1, "outline_before": 1, "outline_source": 1}
    )
    assert truths.measure(result, scene="face", prompt="old_man") == truths.UNKNOWN
    assert truths.measure(result, scene="ball", prompt="gold") == truths.UNKNOWN


@pytest.mark.slow
def test_outlines_tell_a_grown_shape_from_none():
    prompts = Prompts("a photo of a man", "a man wearing a batman mask")
    with pytest.warns(UserWarning, match=LONG):
        result = SceneEdit(Scene.sample("face"), prompts, prior="tiny", num_steps=1).finish()
    found = truths.measure(result, scene="face", prompt="batman")
    assert found["outline"] == found["outline_before"] < 0.97  # the ears are missing
    (truth,) = truths.truths("face", "batman")
    result.after = truth
    studio = torch.arange(len(truth)) >= len(truth) - 4000
    result.origin = torch.where(studio, len(result.before) - 1, 0)
    found = truths.measure(result, scene="face", prompt="batman")
    assert found["outline"] == 1 and found["outline_source"] == found["outline_before"] < 0.97


@pytest.mark.slow
def test_the_plain_head_is_the_sample_scene(monkeypatch):
    """So the truth differs from the source by the costume alone."""
    monkeypatch.setitem(truths.SUBTLE, "nothing", {})
    (head,) = truths.truths("face", "nothing")
    source = load_gaussians(Scene.sample("face").source)
    assert len(head) == len(source)
    torch.testing.assert_close(head.means, source.means, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_an_experiment_with_a_truth_has_its_column(tmp_path):
    case = Case("face", "gold", ("scene=face", "prompt=gold"))
    common = [*FAST, "metrics.clip=null"]
    settings = {"rates": {"ssd": [1.0]}, "common": common, "folder": tmp_path}
    (run,) = plan({"ssd": []}, [case], measured={"truth": True}, **settings)
    with pytest.warns(UserWarning, match=LONG):
        execute(run)
    assert abs(run.row()["way"]) < 0.1  # two steps of noise
    assert json.loads((run.folder / "metrics.json").read_text())["way_front"] is not None
    (without,) = plan({"ssd": []}, [case], **settings)
    assert not without.finished  # what is measured is part of what a run is


def test_without_the_generator_one_line_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(truths, "ROOT", tmp_path)
    cfg = composed(["experiment=embedded_edits"])
    assert no_truth_note(cfg) == [truths.MISSING] and "scripts/workshop" in truths.MISSING
    assert no_truth_note(composed(["experiment=fig8"])) == []
