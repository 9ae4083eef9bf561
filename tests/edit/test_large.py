"""What an edit of a large scene keeps in memory, counted at a small size."""

import gc
from dataclasses import replace

import pytest
import torch

from gs_ssd.guidance import SSD
from gs_ssd.scene.scene import Scene
from gs_ssd.session.edit import SceneEdit
from tests.session import small
from tests.synthetic import random_gaussians

COUNT = 4321


def kept() -> float:
    """Memory of all live tensors as long as the scene, in copies of its six tensors."""
    long = [
        tensor
        for tensor in gc.get_objects()
        if issubclass(type(tensor), torch.Tensor) and COUNT in tensor.shape[:2] and tensor.is_floating_point()
    ]
    memory: dict[int, int] = {}
    for tensor in [*long, *(tensor.grad for tensor in long if tensor.is_leaf and tensor.grad is not None)]:
        place, size = tensor.untyped_storage().data_ptr(), tensor.numel() * tensor.element_size()
        memory[place] = max(size, memory.get(place, 0))  # a view of it counts no less, whichever comes last
    return sum(memory.values()) / (COUNT * 14 * 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "share, copies",
    [
        # loaded, edited, two moments; anchors of all but colours, their weights, two sums of the densifier
        (1.0, 1 + 1 + 2 + (11 + 1 + 2) / 14),
        (0.01, 1 + 1 + 4 / 14),  # loaded, edited, its scales and opacities as they are rendered
    ],
)
def test_no_copy_of_the_scene_is_kept_that_nobody_needs(share, copies):
    gc.collect()
    before = kept()
    scene = Scene.of(random_gaussians(COUNT, sh_degree=0), views={"count": 2})
    scene = replace(scene, editable=torch.arange(COUNT) < share * COUNT)
    edit = SceneEdit(scene, small.PROMPTS, prior=small.prior(), guidance=SSD(), num_steps=4)
    for _ in range(3):
        next(edit)
    gc.collect()
    assert kept() - before == pytest.approx(copies, abs=0.01)
