"""Structure and judge distance: a hand-made transformer whose keys are known, then real ones."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from transformers import ViTConfig, ViTModel

from gs_ssd.assets import DATA
from gs_ssd.errors import UserError
from gs_ssd.metrics.judge_distance import judge_distance
from gs_ssd.metrics.structure import self_similarity, structure_distance
from gs_ssd.metrics.vision import IMAGENET, Vision

MEAN, STD = (torch.tensor(s) for s in IMAGENET)


class PatchColours(nn.Module):
    """A transformer without layers: the keys of its 2x2 patches are their normalised mean colours."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(image_size=4, model_type="patch colours")
        self.k_proj = nn.Linear(3, 3)
        nn.init.eye_(self.k_proj.weight)
        nn.init.zeros_(self.k_proj.bias)

    def forward(self, pixel_values, output_hidden_states=False):
        tokens = F.avg_pool2d(pixel_values, 2).flatten(2).transpose(1, 2)
        return SimpleNamespace(hidden_states=(self.k_proj(tokens),))


@pytest.fixture
def vision() -> Vision:
    return Vision(PatchColours())


def picture(keys: list[list[float]]) -> torch.Tensor:
    """The picture [1, 4, 4, 3] whose four patches have these keys."""
    colours = MEAN + STD * torch.tensor(keys)
    return colours.reshape(1, 2, 2, 3).repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)


E1, E2, E3 = torch.eye(3).tolist()


def test_keys_are_those_of_the_layer(vision):
    keys = [[1.0, 2.0, 3.0], E1, E2, [0.5, -1.0, 0.0]]
    assert_close(vision.keys(picture(keys))[0], torch.tensor(keys), atol=1e-5, rtol=0)


def test_structure_distance_by_hand(vision):
    """Rows against columns: of 16 similarities, those of 4 unordered pairs go between 0 and 1."""
    rows, columns = picture([E1, E1, E2, E2]), picture([E1, E2, E1, E2])
    assert structure_distance(vision, rows, columns) == pytest.approx(8 / 16, rel=1e-5)
    diagonal = picture([E1, E1, [1.0, 1.0, 0.0], [1.0, 1.0, 0.0]])  # at 45 degrees: cosine √½ across the rows
    assert structure_distance(vision, diagonal, rows) == pytest.approx(8 * 0.5 / 16, rel=1e-5)


def test_structure_distance_sees_no_appearance(vision):
    """Lengths of keys, and any rotation of them all, leave their similarities alone."""
    layout = picture([E1, E1, E2, E2])
    assert structure_distance(vision, layout, layout) == 0
    assert structure_distance(vision, layout, picture([E2, E2, E3, E3])) == pytest.approx(0, abs=1e-9)
    stronger = picture([[3.0, 0, 0], [0.2, 0, 0], [0, 2.0, 0], [0, 1.0, 0]])
    assert structure_distance(vision, layout, stronger) == pytest.approx(0, abs=1e-9)


def test_compat_feeds_0_to_255(vision):
    a, b = torch.rand(2, 1, 4, 4, 3, generator=torch.Generator().manual_seed(0))
    compat = structure_distance(vision, a, b, compat=True)
    assert compat == pytest.approx(structure_distance(vision, 255 * a, 255 * b), rel=1e-4)
    assert compat != pytest.approx(structure_distance(vision, a, b), rel=1e-2)


def test_compat_resizes_without_antialiasing(vision):
    """From 8 to 4 pixels, bilinear sampling alone reads two pixels of each side's two, antialiasing more."""
    picture = torch.rand(1, 8, 8, 3, generator=torch.Generator().manual_seed(1))
    plain = F.avg_pool2d(picture.permute(0, 3, 1, 2), 4).permute(0, 2, 3, 1).reshape(1, 4, 3)
    assert_close(vision.keys(picture, compat=True), (255 * plain - MEAN) / STD, atol=1e-3, rtol=0)
    assert not torch.allclose(vision.keys(picture), (plain - MEAN) / STD, atol=1e-3)


def test_judge_distance_by_hand(vision):
    """Opposite tokens are 4 apart, orthogonal ones 2, equal directions 0."""
    a = picture([E1, E1, E2, [0.0, 0.0, 5.0]])
    b = picture([E1, E2, [0.0, -1.0, 0.0], E3])
    assert judge_distance(vision, a, b) == pytest.approx((0 + 2 + 4 + 0) / 4, rel=1e-5)
    assert judge_distance(vision, a, a) == 0


@pytest.fixture(scope="module")
def vit_folder(tmp_path_factory):
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=12,
        num_hidden_layers=3,
        num_attention_heads=3,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
    )
    folder = tmp_path_factory.mktemp("vit")
    ViTModel(config).save_pretrained(folder)
    return folder


def test_keys_of_a_vit(vit_folder):
    """All tokens, the class token too, heads side by side, of the last layer: what its own parts compute."""
    vision = Vision.from_pretrained(str(vit_folder))
    image = torch.rand(1, 48, 48, 3, generator=torch.Generator().manual_seed(0))
    caught = []
    name = next(n for n, _ in vision.model.named_modules() if n.endswith("2.layernorm_before"))
    hook = vision.model.get_submodule(name).register_forward_hook(lambda layer, args, out: caught.append(out))
    keys = vision.keys(image)
    hook.remove()
    assert keys.shape == (1, 1 + 4 * 4, 12)
    assert_close(keys, F.linear(caught[0], vision.key_layers[-1].weight, vision.key_layers[-1].bias))
    assert len(vision.key_layers) == 3


def test_distances_of_a_vit(vit_folder):
    vision = Vision.from_pretrained(str(vit_folder))
    a, b = torch.rand(2, 1, 40, 40, 3, generator=torch.Generator().manual_seed(0))
    for distance in (structure_distance, judge_distance):
        assert distance(vision, a, a) == 0
        assert distance(vision, a, b) == pytest.approx(distance(vision, b, a), rel=1e-5)
        assert distance(vision, a, b) > distance(vision, a, a + 0.02 * (b - a)) > 0


def test_the_judge_serves_too():
    vision = Vision.from_pretrained(str(DATA / "judge"))
    image = torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(0))
    assert vision.keys(image).shape == (1, 65, 128)  # 8x8 patches and the class token
    assert len(vision.hidden(image)) == 6  # the embedding and five layers
    assert_close(self_similarity(vision.keys(image)).diagonal(dim1=1, dim2=2), torch.ones(1, 65))


def test_a_model_that_is_none(tmp_path):
    with pytest.raises(UserError, match=r"can't load the vision transformer .*nothing"):
        Vision.from_pretrained(str(tmp_path / "nothing"))


def test_a_model_without_keys():
    model = nn.Linear(3, 3)
    model.config = SimpleNamespace(image_size=4, model_type="linear")
    with pytest.raises(UserError, match="a linear model has no attention keys"):
        Vision(model)
