"""CLIPScore from features that are known."""

from __future__ import annotations

import pytest
import torch

from gs_ssd.assets import DATA
from gs_ssd.metrics.clip import Clip
from gs_ssd.metrics.clip_score import clip_score


class MeanColour(Clip):
    """The feature of an image is its mean colour, a prompt's the unit vector of its colour."""

    def __init__(self) -> None:
        self.device = torch.device("cpu")

    def image_features(self, images):
        return torch.nn.functional.normalize(images.mean(dim=(1, 2)), dim=-1)

    def text_features(self, prompts):
        colours = {"red": [1.0, 0, 0], "cyan": [0, 0.6, 0.8], "not red": [-1.0, 0, 0]}
        return torch.tensor([colours[prompt] for prompt in prompts])


@pytest.mark.parametrize(
    ("prompt", "score"), [("red", 60.0), ("cyan", 64.0), ("not red", 0.0)]
)  # (0.6, 0, 0.8) against each; a negative cosine counts as none
def test_scores_by_hand(prompt, score):
    image = torch.tensor([0.6, 0.0, 0.8]).expand(1, 5, 5, 3)
    assert clip_score(MeanColour(), image, prompt) == pytest.approx(score)


def test_each_image_is_clamped_before_the_mean():
    red, negative = torch.tensor([1.0, 0, 0]), torch.tensor([-1.0, 0, 0])
    images = torch.stack([red, negative])[:, None, None].expand(2, 3, 3, 3)
    assert clip_score(MeanColour(), images, "red") == pytest.approx(50.0)


def test_the_judge_scores_a_head_by_what_it_shows():
    from gs_ssd.evaluation.pie_bench import load_pie_bench
    from gs_ssd.results.image_files import load_image

    judge = Clip.from_pretrained(str(DATA / "judge"))
    picture = load_image(load_pie_bench(DATA / "pie_bench")[0].image, size=128)
    own, other = (clip_score(judge, picture, p) for p in ("a photo of a man", "a photo of spider-man"))
    assert 100 >= own > other >= 0
