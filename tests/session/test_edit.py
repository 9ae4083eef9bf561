"""An edit as an object: it stops, goes on, resumes bit for bit, and minds nothing else in the process."""

import json
import re
from pathlib import Path

import pytest
import torch

import gs_ssd
from gs_ssd.errors import NonFiniteError, UserError
from gs_ssd.guidance import CDS, DDS, SSD, VSD
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.scene import Scene
from gs_ssd.session import checkpoints
from gs_ssd.session.checkpoints import load_checkpoint, save_checkpoint
from gs_ssd.session.describe import describe, rebuild
from gs_ssd.session.edit import SceneEdit
from gs_ssd.session.image import ImageEdit
from gs_ssd.session.prompts import Prompts
from tests.session import small
from tests.synthetic import random_gaussians


def equal(first: Gaussians, second: Gaussians) -> bool:
    return all(torch.equal(value, second.tensors()[name]) for name, value in first.tensors().items())


def run(edit, steps: int | None = None):
    for _ in edit:
        if edit.step == steps:
            break
    return edit


def test_stopping_and_going_on_is_no_different_from_running():
    whole, parts = small.edit(), small.edit()
    run(whole)
    for stop in (1, 7, 8, 20):
        run(parts, stop)
        assert parts.step == stop
    assert equal(whole.gaussians, parts.gaussians)
    assert [r.t for r in whole.reports] == [r.t for r in parts.reports]
    assert len(whole.gaussians) > len(whole.scene)  # it densified


def test_an_edit_minds_nothing_else_in_the_process_and_leaves_it_alone():
    alone = run(small.edit())
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first, second = small.edit(), small.edit(seed=1)
    for _ in range(20):
        next(first), next(second)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    assert equal(alone.gaussians, first.gaussians) and not equal(first.gaussians, second.gaussians)


def test_a_snapshot_is_detached_and_the_source_stays():
    edit = small.edit()
    original = edit.scene.gaussians.clone()
    next(edit)
    snapshot = edit.gaussians
    kept = snapshot.clone()
    run(edit)
    assert equal(snapshot, kept) and equal(edit.scene.gaussians, original)
    assert not snapshot.means.requires_grad


@pytest.mark.parametrize("stop", [1, 4, 5, 13])
def test_a_resumed_edit_ends_in_the_same_bytes(stop, tmp_path):
    whole = run(small.edit())
    part = run(small.edit(), stop)
    part.save_checkpoint(tmp_path)
    resumed = SceneEdit.resume(tmp_path, scene=small.scene(), prior=small.prior())
    assert resumed.step == stop and resumed.num_steps == 20
    run(resumed)
    assert equal(whole.gaussians, resumed.gaussians)
    assert torch.equal(whole.trainable.params["origin"], resumed.trainable.params["origin"])
    assert [r.loss for r in whole.reports] == [r.loss for r in resumed.reports]


@pytest.mark.slow
@pytest.mark.parametrize("method", [SSD, VSD, lambda: CDS(SSD())], ids=["ssd", "vsd", "cds"])
def test_methods_with_networks_resume_in_the_same_bytes(method, tmp_path):
    prior = gs_ssd.load_prior("tiny", device="cpu")

    def edit() -> SceneEdit:
        densifier = gs_ssd.session.edit.Densifier(every=3, start=3, stop=8, percent=0.1)
        prompts = Prompts("a photo", "a drawing")
        return SceneEdit(
            small.scene(), prompts, prior=prior, guidance=method(), num_steps=8, densifier=densifier
        )

    whole, part = run(edit()), run(edit(), 5)
    part.save_checkpoint(tmp_path)
    resumed = SceneEdit.resume(tmp_path, scene=small.scene(), prior=prior)
    assert equal(whole.gaussians, run(resumed).gaussians)


@pytest.mark.parametrize("space", ["latents", "pixels", "noise"])
def test_a_picture_resumes_in_the_same_bytes(space, tmp_path):
    picture = torch.full((1, small.SIZE, small.SIZE, 3), 0.4)

    def edit() -> ImageEdit:
        if space == "noise":
            from gs_ssd.guidance import SDS

            return ImageEdit(None, Prompts(None, "red"), prior=small.prior(), guidance=SDS(), num_steps=9)
        return ImageEdit(
            picture, small.PROMPTS, prior=small.prior(), guidance=DDS(), num_steps=9, space=space
        )

    whole, part = run(edit()), run(edit(), 4)
    part.save_checkpoint(tmp_path)
    given = None if space == "noise" else picture
    resumed = ImageEdit.resume(tmp_path, image=given, prior=small.prior())
    assert torch.equal(whole.picture, run(resumed).picture)


def test_a_number_that_broke_leaves_the_scene_and_the_edit_usable():
    edit = run(small.edit(), 3)
    good = edit.gaussians
    means = edit.prior.means.clone()
    edit.prior.means[:] = float("nan")
    with pytest.raises(NonFiniteError, match="ssd gradient is not finite at step 3"):
        next(edit)
    assert equal(edit.gaussians, good) and edit.step == 3
    edit.prior.means[:] = means
    assert next(edit).step == 3


class TestRefusals:
    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        run(small.edit(), 2).save_checkpoint(tmp_path)
        return tmp_path

    def refused(self, folder, **given) -> str:
        settings = {"scene": small.scene(), "prior": small.prior()} | given
        with pytest.raises(UserError) as caught:
            SceneEdit.resume(folder, **settings)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_another_scene(self, folder):
        said = self.refused(folder, scene=Scene.of(random_gaussians(301), name="other", views={"count": 8}))
        assert "small" in said and "other" in said

    def test_another_prior(self, folder):
        other = small.prior()
        other.name = "the other prior"
        other.schedule = type(other.schedule).scaled_linear(beta_end=0.02)
        said = self.refused(folder, prior=other)
        assert "gaussian" in said and "the other prior" in said

    def test_another_version(self, folder, monkeypatch):
        monkeypatch.setattr(checkpoints, "__version__", "9.9.9")
        said = self.refused(folder)
        assert "9.9.9" in said and gs_ssd.__version__ in said

    def test_a_cut_file(self, folder):
        path = folder / checkpoints.NAME
        path.write_bytes(path.read_bytes()[:-100])
        assert "is not a whole checkpoint" in self.refused(folder)

    def test_another_file_of_the_same_kind(self, tmp_path):
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(3)}, tmp_path / checkpoints.NAME)
        assert "is not a whole checkpoint" in self.refused(tmp_path)

    def test_a_folder_that_is_no_run(self, tmp_path):
        assert "holds no checkpoint.safetensors" in self.refused(tmp_path)
        assert "no such checkpoint" in self.refused(tmp_path / "nowhere")

    def test_a_class_from_elsewhere(self, folder):
        state, about = load_checkpoint(folder)
        about["settings"]["guidance"] = {"_class": "os.system", "command": "true"}
        save_checkpoint(folder, state, about)
        assert "os.system is not a class of gs_ssd" in self.refused(folder)

    def test_a_picture(self, tmp_path):
        picture = torch.full((1, small.SIZE, small.SIZE, 3), 0.4)
        edit = ImageEdit(picture, small.PROMPTS, prior=small.prior(), guidance=DDS(), num_steps=2)
        edit.save_checkpoint(tmp_path)
        assert "ImageEdit.resume" in self.refused(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_steps": 0}, "steps=0 must be a whole number"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 2**64}, "seed="),
        ({"seed": "abc"}, "seed=abc"),
        ({"views_per_step": 1.5}, "views_per_step=1.5"),
        ({"betas": (2, 3)}, "optimizer.betas"),
        ({"betas": "x"}, "optimizer.betas=("),
        ({"clamp_colours": "yes"}, "optimizer.clamp_colours=yes"),
        ({"resolution": 0}, "resolution=0"),
        ({"resolution": 10**9}, "resolution=1000000000"),
    ],
)
def test_library_users_get_the_same_one_line(settings, message):
    with pytest.raises(UserError, match=re.escape(message)):
        small.edit(**settings)


def test_components_survive_their_description():
    for component in small.edit().settings.values():
        text = json.dumps(describe(component))
        assert describe(rebuild(json.loads(text))) == json.loads(text)


def test_results_are_saved_and_the_source_is_never_overwritten(tmp_path):
    gs_ssd.scene.save_gaussians(random_gaussians(200), tmp_path / "edited.ply")
    scene = Scene.load(tmp_path / "edited.ply", views={"count": 4})
    edit = run(SceneEdit(scene, small.PROMPTS, prior=small.prior(), num_steps=2))
    result = edit.finish()
    with pytest.raises(UserError, match=r"holds the input .*edited\.ply"):
        result.save(tmp_path)
    out = result.save(tmp_path / "out", videos=result.videos(frames=4, size=32, sheet_views=4, sheet_size=32))
    assert {"edited.ply", "origin.npy", "run.json", "metrics.json", "report.html", "turntable.mp4"} <= {
        path.name for path in out.iterdir()
    }
    assert json.loads((out / "run.json").read_text())["input"]["sha256"] == scene.digest


@pytest.mark.slow
def test_the_readmes_library_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(import gs_ssd.*?)```", readme, flags=re.S)
    exec(compile(code.replace("num_steps=300", "num_steps=2"), "README.md", "exec"), {})
    assert (tmp_path / "out" / "edited.ply").is_file()
