"""`mask=` as it is typed, against the masks of Python."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gs_ssd.errors import UserError
from gs_ssd.scene import masks
from gs_ssd.scene.masks import Box, Difference, Grow, HalfSpace, Intersection, Invert, Shrink, Sphere, Union
from gs_ssd.session.config import build, compose
from gs_ssd.session.selections import spelled_out
from tests.synthetic import random_gaussians

SCENE = random_gaussians(300)
BALL, OTHER = Sphere([0, 0, 0], 0.6), Sphere([0.4, 0, 0], 0.5)
UPPER = HalfSpace([0, 0, 0], [0, -1, 0])


def selected(*typed: str) -> torch.Tensor:
    cfg = compose(["device=cpu", *typed])
    return build(cfg, "mask")(SCENE)


BALL_AT = "{0}.center=[0,0,0] {0}.radius=0.6".format
OTHER_AT = "{0}.center=[0.4,0,0] {0}.radius=0.5".format


@pytest.mark.parametrize(
    "typed, mask",
    [
        (
            "mask=union mask.of=[sphere,box] mask.of.box.low=[-1,-1,0] mask.of.box.high=[1,1,1] "
            + BALL_AT("mask.of.sphere"),
            Union([BALL, Box([-1, -1, 0], [1, 1, 1])]),
        ),
        (
            "mask=difference mask.of.big=sphere mask.of.small=sphere "
            + f"{BALL_AT('mask.of.big')} {OTHER_AT('mask.of.small')}",
            Difference([BALL, OTHER]),
        ),
        (
            "mask=difference mask.of.a=sphere mask.of.b=sphere "
            + f"{BALL_AT('mask.of.b')} {OTHER_AT('mask.of.a')}",
            Difference([OTHER, BALL]),
        ),
        (
            "mask=intersection mask.of=[sphere,halfspace] mask.of.halfspace.point=[0,0,0] "
            + f"mask.of.halfspace.normal=[0,-1,0] {BALL_AT('mask.of.sphere')}",
            Intersection([BALL, UPPER]),
        ),
        (f"mask=invert mask.of=sphere {BALL_AT('mask.of')}", Invert(BALL)),
        (f"mask=grow mask.of=sphere {BALL_AT('mask.of')} mask.distance=0.1", Grow(BALL, 0.1)),
        (
            "mask=shrink mask.of=union mask.of.of.a=sphere mask.of.of.b=sphere mask.distance=0.1 "
            + f"{BALL_AT('mask.of.of.a')} {OTHER_AT('mask.of.of.b')}",
            Shrink(Union([BALL, OTHER]), 0.1),
        ),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, masks.Mask) else "",
)
def test_combined_masks_on_the_command_line_are_those_of_python(typed, mask):
    chosen = selected(*typed.split())
    assert torch.equal(chosen, mask(SCENE)) and 0 < int(chosen.sum()) < len(SCENE)


def test_a_file_describes_a_mask_and_what_is_typed_wins(tmp_path):
    file = tmp_path / "my mask.yaml"
    file.write_text(
        """
        mask: grow
        distance: 0.05
        of:
          mask: difference
          of:
            - {mask: sphere, center: [0, 0, 0], radius: 0.6}
            - mask: invert
              of: {mask: halfspace, point: [0, 0, 0], normal: [0, -1, 0]}
        """
    )
    assert torch.equal(selected(f"mask={file}"), Grow(Difference([BALL, Invert(UPPER)]), 0.05)(SCENE))
    smaller = Grow(Difference([Sphere([0, 0, 0], 0.4), Invert(UPPER)]), 0.05)(SCENE)
    assert torch.equal(selected(f"mask={file}", "mask.of.of.sphere.radius=0.4"), smaller)


def test_selections_are_named_by_their_files(tmp_path):
    np.save(tmp_path / "hair, all.npy", np.arange(7))
    assert selected(f"mask={tmp_path / 'hair, all.npy'}").nonzero().flatten().tolist() == list(range(7))
    both = selected(
        *("mask=difference", f"mask.of.hair={tmp_path / 'hair, all.npy'}", "mask.of.ball=sphere"),
        *BALL_AT("mask.of.ball").split(),
    )
    assert torch.equal(both, (torch.arange(len(SCENE)) < 7) & ~BALL(SCENE))
    assert spelled_out([f"mask={tmp_path}"]) == ["mask=pictures", f"mask.path={tmp_path}"]


@pytest.mark.parametrize(
    "typed, problem",
    [
        (["mask=union"], "mask.of"),
        (["mask=union", "mask.of=[]"], "is made of others"),
        (["mask=union", "mask.of="], "choose one of all, box"),
        (["mask=union", "mask.of=[spere,box]"], "no mask is called 'spere' (did you mean sphere?)"),
        (["mask=union", "mask.of=[sphere,sphere]"], "mask.of.first=sphere mask.of.second=sphere"),
        (
            ["mask=invert", "mask.of=sphere", *BALL_AT("mask.of").split(), "mask.of.radios=2"],
            "mask.of.radios (did you mean mask.of.radius?); there are: mask.of.center, mask.of.radius",
        ),
        (
            ["mask=union", "mask.of=[sphere,box]", "mask.of.box.hgih=[1,1,1]"],
            "(did you mean mask.of.box.high?); there are: mask.of.box.low, mask.of.box.high, mask.of.box.rotation",
        ),
        (["mask=sphere", "mask.radios=1"], "there are: mask.center, mask.radius"),
        (["mask=union", "mask.of.ball=sphere", "mask.of.box.low=0"], "there are: mask.of.ball"),
        (
            ["mask.radius=1"],
            "mask.radius belongs to a mask, and none is chosen; choose one with mask=: all, box",
        ),
        (
            ["mask=union", "mask.of=[sphere]", "mask.of.sphere.radius=1"],
            "mask.of.sphere.center is missing; give it as",
        ),
        (["mask=union", "mask.of.x=1"], "mask.of.x=1: choose one of all, box"),
        (["mask=none.yaml"], "mask=none.yaml can't be read: No such file"),
        (
            ["mask=union", "mask.of=[sphere]", "mask.of.sphere.center=[0,0,0]", "mask.of.sphere.radius=x"],
            "radius=x",
        ),
    ],
)
def test_what_is_no_combined_mask_is_one_line(typed, problem):
    with pytest.raises(UserError) as caught:
        selected(*typed)
    assert problem in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content, problem",
    [
        ("[1, 2]", "must say mask: and one of"),
        ("{center: [0, 0, 0]}", "must say mask: and one of"),
        ("{mask: union, of: [{radius: 1}]}", "must say mask:"),
        ("{mask: union, of: 3}", "must say mask:"),
        ("mask: [", "can't be read"),
    ],
)
def test_what_is_no_description_is_one_line(content, problem, tmp_path):
    (tmp_path / "a.yaml").write_text(content)
    with pytest.raises(UserError) as caught:
        selected(f"mask={tmp_path / 'a.yaml'}")
    assert problem in str(caught.value) and "a.yaml" in str(caught.value)
