"""The labels beside the sample scenes belong to them and say what one sees."""

import numpy as np
import pytest

from gs_ssd.assets import DATA
from gs_ssd.errors import UserError
from gs_ssd.scene import load_gaussians
from gs_ssd.scene.parts import PARTS, load_parts


@pytest.mark.parametrize("name", ["face", "elder", "woman"])
def test_labels_fit_the_scene(name):
    scene = load_gaussians(DATA / "scenes" / f"{name}.ply")
    parts = load_parts(DATA / "scenes" / f"{name}_parts.npy", count=len(scene))

    def of(part):
        return scene[parts == PARTS.index(part)]

    assert all(len(of(part)) > 100 for part in PARTS)
    # y points down: hair above the clothes, the lip between them, the studio around all.
    assert (
        of("hair").means[:, 1].mean() < of("moustache").means[:, 1].mean() < of("clothes").means[:, 1].mean()
    )
    assert of("studio").means.norm(dim=1).min() > of("skin").means.norm(dim=1).max()
    assert of("clothes").means[:, 1].min() > of("moustache").means[:, 1].max()


def test_files_that_do_not_belong(tmp_path):
    with pytest.raises(UserError, match=r"can't read the parts .*missing.npy"):
        load_parts(tmp_path / "missing.npy", count=3)
    np.save(tmp_path / "short.npy", np.zeros(2, dtype=np.uint8))
    with pytest.raises(UserError, match="each of the scene's 3 Gaussians"):
        load_parts(tmp_path / "short.npy", count=3)
    np.save(tmp_path / "wild.npy", np.full(3, 200, dtype=np.uint8))
    with pytest.raises(UserError, match="label below 5"):
        load_parts(tmp_path / "wild.npy", count=3)
