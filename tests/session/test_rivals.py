"""What edits pictures, through the doors a user has: the settings, the objects, a resumed run."""

from __future__ import annotations

import pytest
import torch

from gs_ssd.diffusion.tiny import tiny_prior
from gs_ssd.editors import DDIMInversion, FlowEdit, SDEdit
from gs_ssd.errors import UserError
from gs_ssd.session.config import compose, image_edit, scene_edit
from gs_ssd.session.edit import SceneEdit
from gs_ssd.session.image import ImageEdit
from gs_ssd.session.prompts import Prompts

PROMPTS = Prompts("a man", "a clown")


def picture() -> torch.Tensor:
    return torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["in2n", "gs_editor", "dge"])
@pytest.mark.parametrize("image", [False, True], ids=["text", "ip2p"])
def test_a_refit_of_the_settings_runs_on_every_kind_of_prior(name, image):
    settings = ["scene=face", f"guidance={name}", "diffusion=tiny", "device=cpu", "resolution=64", "steps=3"]
    settings += ["prompt.source=a man", "prompt.target=a clown"]
    cfg = compose([*settings, "guidance.moves=2", "guidance.views=3", "guidance.every=2"])
    prior = tiny_prior(image_condition=image)
    edit = scene_edit(cfg, lambda: prior)
    reports = list(edit)
    assert edit.guidance.hand.name == ("instruct_pix2pix" if image else "sdedit")
    assert reports[0].evaluations >= 2 and all(
        torch.isfinite(v).all() for v in edit.gaussians.tensors().values()
    )
    assert not torch.equal(edit.gaussians.sh0, edit.before.sh0)


@pytest.mark.parametrize("name", ["sdedit", "ddim_inversion", "flowedit", "instruct_pix2pix"])
def test_a_2d_editor_of_the_settings_edits_a_picture(name, tmp_path):
    from gs_ssd.results.image_files import save_image

    save_image(picture()[0], tmp_path / "photo.png")
    said = [f"image={tmp_path / 'photo.png'}", "prompt.source=a man", "prompt.target=a clown", "steps=4"]
    cfg = compose([*said, f"guidance={name}", "diffusion=tiny", "device=cpu"], "edit_image")
    edit = image_edit(cfg, tiny_prior(image_condition=name == "instruct_pix2pix"))
    reports = list(edit)
    assert len(reports) == 4 and reports[-1].evaluations >= 2
    result = edit.finish()
    assert result.change > 0 and torch.isfinite(result.after).all()


@pytest.mark.parametrize("editor", [SDEdit(), DDIMInversion(), FlowEdit(draws=2)], ids=lambda e: e.name)
def test_a_resumed_walk_is_the_uninterrupted_one(editor, tmp_path):
    prior = tiny_prior()

    def edit() -> ImageEdit:
        return ImageEdit(picture(), PROMPTS, prior=prior, guidance=editor, num_steps=6)

    whole, first = edit(), edit()
    list(whole)
    for _ in range(3):
        next(first)
    second = ImageEdit.resume(first.save_checkpoint(tmp_path), image=picture(), prior=prior)
    list(second)
    assert torch.equal(whole.picture, second.picture)
    assert [r.loss for r in whole.reports] == [r.loss for r in second.reports]


def test_the_embedded_prior_brings_its_own_numbers():
    cfg = compose(["scene=face", "guidance=dge", "diffusion=embedded", "device=cpu"])
    assert cfg.guidance.editor == "ddim_inversion" and cfg.guidance.s == 1.0 and cfg.anchors is None
    assert (
        compose(["scene=face", "guidance=gs_editor", "diffusion=embedded", "device=cpu"]).anchors is not None
    )
    typed = compose(["scene=face", "guidance=in2n", "guidance.s=3", "diffusion=embedded", "device=cpu"])
    assert typed.guidance.s == 3 and typed.guidance.moves == 10


@pytest.mark.parametrize(
    "settings, line",
    [
        ({"guidance": FlowEdit(), "rate": 0.1}, "rate=0.1 is for methods that distil"),
        ({"guidance": FlowEdit(), "space": "pixels"}, "space=pixels is for methods that distil"),
        ({"guidance": DDIMInversion(), "num_steps": 1}, "steps=1: ddim_inversion"),
    ],
)
def test_what_a_walk_would_ignore_is_refused(settings, line):
    with pytest.raises(UserError, match=line):
        ImageEdit(picture(), PROMPTS, prior=tiny_prior(), **settings)


@pytest.mark.parametrize("name", ["in2n", "gs_editor", "dge"])
@pytest.mark.parametrize("typed", ["timesteps=uniform", "timesteps.ratio_min=0.3", "+timesteps.x=1"])
def test_timesteps_beside_a_refit_are_refused(name, typed):
    with pytest.raises(
        UserError, match=r"is for methods that distil; .* use guidance\.strength= and guidance\.rounds="
    ):
        compose(["scene=face", f"guidance={name}", typed, "diffusion=tiny", "device=cpu"])


def test_timesteps_beside_a_method_with_levels_of_its_own_are_refused_in_python_too():
    from gs_ssd.diffusion.timesteps import Uniform
    from gs_ssd.edit.refit import Refit
    from gs_ssd.scene.scene import Scene

    for edit, what, method in (
        (SceneEdit, Scene.sample("face"), Refit()),
        (ImageEdit, picture(), FlowEdit()),
    ):
        with pytest.raises(UserError, match=f"timesteps=Uniform is for methods that distil; {method.name}"):
            edit(what, PROMPTS, prior=tiny_prior(), guidance=method, timesteps=Uniform())


@pytest.mark.parametrize(
    "settings", [["guidance=flowedit", "timesteps=sqrt"], ["timesteps=sqrt", "guidance=sdedit"]]
)
def test_timesteps_beside_a_2d_editor_are_refused(settings):
    with pytest.raises(UserError, match=r"timesteps=sqrt is for .* use guidance\.strength="):
        compose(["image=x.png", "prompt.target=x", *settings, "device=cpu"], "edit_image")


def test_a_refit_of_one_picture_is_refused():
    from gs_ssd.edit.refit import Refit

    with pytest.raises(UserError, match="guidance=in2n refits a scene"):
        ImageEdit(picture(), PROMPTS, prior=tiny_prior(), guidance=Refit(name="in2n"))
    with pytest.raises(UserError, match="flowedit edits what is there"):
        ImageEdit(None, Prompts(None, "a clown"), prior=tiny_prior(), guidance=FlowEdit())
