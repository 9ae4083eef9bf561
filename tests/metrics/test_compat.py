"""The published script's habits, and what each of them does."""

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from gs_ssd.errors import UserError
from gs_ssd.metrics.clip import MEAN, STD, Clip, clip_metrics, compat_metrics

SIZE = 8


@pytest.fixture(scope="module")
def clip() -> Clip:
    """CLIP's architecture with random weights."""
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        vision_config=small | {"image_size": SIZE, "patch_size": 4},
        text_config=small | {"vocab_size": 10},
        projection_dim=6,
    )
    return Clip(CLIPModel(config), tokenizer=None)


def test_pictures_enter_transposed_and_as_bytes(clip):
    picture = torch.rand(1, SIZE, SIZE, 3)
    expected = torch.from_numpy((255 * picture[0].numpy()).T.copy())[None]  # channels, width, height
    pixels = (expected - torch.tensor(MEAN).reshape(3, 1, 1)) / torch.tensor(STD).reshape(3, 1, 1)
    features = clip.model.get_image_features(pixel_values=pixels)
    features = getattr(features, "pooler_output", features)
    want = torch.nn.functional.normalize(features, dim=-1)
    torch.testing.assert_close(clip.image_features(picture, compat=True), want)
    assert (clip.image_features(picture) @ want.T).item() < 0.999


def test_no_antialiasing(clip):
    """Of stripes of one pixel, a resize without antialiasing keeps the ones it hits; with it they become grey."""
    stripes = torch.zeros(1, 4 * SIZE, 4 * SIZE, 3)
    stripes[:, ::4] = 1.0
    shifted = stripes.roll(2, dims=1)
    assert (clip.image_features(stripes) @ clip.image_features(shifted).T).item() > 0.999
    compat = [clip.image_features(picture, compat=True) for picture in (stripes, shifted)]
    assert (compat[0] @ compat[1].T).item() < 0.999


class ViewClip:
    """The feature of a view is the angle that its brightness says; so are the prompts' features."""

    def image_features(self, images, compat=False):
        angles = images.mean(dim=(1, 2, 3))
        return torch.stack([angles.cos(), angles.sin()], dim=-1)

    def text_features(self, prompts):
        angles = torch.tensor([float(prompt) for prompt in prompts])
        return torch.stack([angles.cos(), angles.sin()], dim=-1)


def views(count: int) -> torch.Tensor:
    return torch.linspace(0, 1, count)[:, None, None, None].expand(-1, 2, 2, 3)


def test_different_views_are_compared():
    """Without any edit the paired direction is 0; unpaired, it is that of other views."""
    prompts = {"source": "0.4", "target": "0.5"}
    paired = clip_metrics(ViewClip(), before=views(20), after=views(20), **prompts)
    assert paired["clip_direction"] == 0 and paired["clip_source_similarity"] == pytest.approx(1)
    unpaired = compat_metrics(ViewClip(), before=views(20), after=views(20), **prompts)
    assert unpaired["clip_direction_compat"] != 0
    # 20 of 20 views are all of them in another order, so a mean over single views is the same.
    assert unpaired["clip_similarity_compat"] == pytest.approx(paired["clip_similarity"])
    assert unpaired == compat_metrics(ViewClip(), before=views(20), after=views(20), **prompts)


def test_compat_needs_twenty_views():
    with pytest.raises(UserError, match="19 views are too few"):
        compat_metrics(ViewClip(), before=views(19), after=views(19), source="0", target="1")


def test_direction_consistency_of_one_edit_and_of_quarrelling_views():
    grey = torch.full((4, 2, 2, 3), 0.5)
    prompts = {"source": "0.5", "target": "0.6"}
    one = clip_metrics(ViewClip(), before=grey, after=grey + 0.1, **prompts)
    assert one["clip_direction_consistency"] == pytest.approx(1)
    signs = torch.tensor([0.1, -0.1, 0.1, -0.1])[:, None, None, None]
    quarrel = clip_metrics(ViewClip(), before=grey, after=grey + signs, **prompts)
    assert quarrel["clip_direction_consistency"] == pytest.approx(-1, abs=0.02)
