"""What suits a prior, a canvas and a method is set for the user, and a value of their own still wins."""

from functools import cache

import pytest
import yaml
from omegaconf import OmegaConf

from gs_ssd.assets import CONFIGS
from gs_ssd.session.calibration import rows
from gs_ssd.session.config import SAMPLE, compose, measures_of
from gs_ssd.session.shorthands import options

DOORS = {"scene": "train", "blob": "train", "image": "edit_image", "noise": "generate_image"}


@cache
def choose(canvas: str, diffusion: str, guidance: str, *typed: str):
    own = {"blob": ["scene=blob"], "image": ["prompt.target=x"], "noise": ["prompt.target=x"]}
    choices = [f"diffusion={diffusion}", f"guidance={guidance}"]
    return compose([*own.get(canvas, []), *choices, *typed], DOORS[canvas])


@pytest.mark.parametrize("row", list(rows()), ids=str)
def test_every_row_belongs_to_choices_that_exist_and_sets_what_exists(row):
    assert row.why
    assert row.canvas in ("", *DOORS) and row.rule in ("", *options("timesteps"))
    prior = {"sd": "sd21", "": "embedded", "sd3": "sd35"}.get(row.prior, row.prior)
    method = row.method or ("nfsd" if row.canvas in ("blob", "noise") else "ssd")
    rule = [f"timesteps={row.rule}"] if row.rule else []
    cfg = choose(row.canvas or "scene", prior, method, *rule)
    for name, value in row.settings.items():
        got = OmegaConf.select(cfg, name, throw_on_missing=True)
        got = OmegaConf.to_container(got) if OmegaConf.is_config(got) else got
        assert value is None or type(got) is type(value)


def test_the_published_numbers_stay_where_nothing_is_tuned():
    assert choose("blob", "sd21", "sds").guidance.s == 100
    assert choose("scene", "embedded", "sds").guidance.s == 100
    published = choose("scene", "sd21", "ssd").guidance
    assert (published.w_p, published.w_t, published.w_e, published.w_id) == (3.75, 1.0, 5.5, 0.075)


def test_room_for_another_outline_is_made_where_it_was_tuned_alone():
    assert choose("scene", "embedded", "ssd").hull.views == 24
    assert choose("scene", "embedded", "ssd", "hull=null").hull is None
    for canvas, prior, method in (
        ("scene", "sd21", "ssd"),
        ("scene", "embedded", "dds"),
        ("blob", "embedded", "nfsd"),
    ):
        assert choose(canvas, prior, method).hull.views == 0


def test_a_users_value_wins():
    assert choose("blob", "embedded", "nfsd", "guidance.s=9").guidance.s == 9
    assert choose("noise", "embedded", "nfsd", "guidance.s=9").guidance.s == 9
    assert choose("noise", "embedded", "nfsd", "s=9").guidance.s == 9
    for prior, s in (("embedded", 4), ("sd21", 7.5)):
        assert choose("noise", prior, "nfsd").guidance.s == s


def test_a_preset_wins_over_the_table_and_what_is_typed_over_the_preset():
    assert choose("scene", "embedded", "ssd").steps == 200 and choose("scene", "sd21", "ssd").steps == 1500
    assert choose("scene", "sd21", "ssd", "preset=quick").steps == 200
    assert choose("scene", "sd21", "ssd", "steps=7", "preset=quick").steps == 7
    assert choose("blob", "embedded", "sds").steps == 1500


def test_the_prior_moves_the_bounds_of_uniform_and_linear_timesteps_alone():
    for canvas, prior, rule, low in (
        ("blob", "embedded", "linear", 0.02),
        ("noise", "embedded", "uniform", 0.02),
        ("scene", "embedded", "uniform", 0.05),
        ("noise", "embedded", "sqrt", 0.3),
        ("scene", "ip2p", "linear", 0.2),
        ("scene", "ip2p", "dreamtime", 0.02),
    ):
        assert choose(canvas, prior, "nfsd", f"timesteps={rule}").timesteps.ratio_min == low


def test_a_scene_from_nothing_brings_its_rates_whatever_the_prior():
    rates = [choose("blob", prior, "sds").optimizer.rates for prior in ("embedded", "sd21")]
    assert rates[0] == rates[1] != choose("scene", "embedded", "sds").optimizer.rates


def test_text_is_literal(monkeypatch):
    monkeypatch.setenv("SECRET", "1234")
    for text in ("${oc.env:SECRET}", "it's ${x}", "a \\ b", "costs 5$ {really}"):
        assert compose([f"prompt.target={text}"]).prompt.target == text


def test_a_prompt_of_ones_own_keeps_its_name_with_a_preset():
    cfg = compose(["scene=my.ply", "prompt.source=a skull", "prompt.target=a gold skull", "preset=quick"])
    assert cfg.prompt.name == "a-gold-skull" and cfg.steps == 200


def test_the_sample_scenes_read_one_table():
    scene = compose(["scene=woman"]).scene
    assert list(scene.center) == list(SAMPLE["center"]) and scene.radius == SAMPLE["radius"]
    assert scene.views.front_azimuth_degrees == SAMPLE["views"]["front_azimuth_degrees"]


@pytest.mark.parametrize("scene", ["face", "elder", "blob"])
def test_each_number_of_a_sample_scenes_views_can_be_typed(scene):
    typed = ["scene.views.count=5", "scene.views.fov_degrees=[50,60]", "scene.views.front_azimuth_degrees=90"]
    before, views = (compose([f"scene={scene}", *words]).scene.views for words in ([], typed))
    assert (views.count, list(views.fov_degrees), views.front_azimuth_degrees) == (5, [50, 60], 90)
    assert before.count == (None if scene == "blob" else SAMPLE["views"]["count"])
    assert all(views[name] == before[name] for name in ("azimuth_degrees", "elevation_degrees", "distance"))
    if scene == "blob":
        assert compose(["scene=blob", "scene.view_words.back=, a back"]).scene.view_words.back == ", a back"


OFFICIAL = {
    "diffusion.name": "sd21",
    "guidance._target_": "gs_ssd.guidance.SSD",
    "guidance.w_p": 3.75,
    "guidance.w_t": 1.0,
    "guidance.w_e": 5.5,
    "guidance.w_id": 0.075,
    "timesteps.ratio_min": 0.02,
    "timesteps.ratio_max": 0.98,
    "steps": 1500,
    "resolution": 512,
    "views_per_step": 1,
    "scene.background": [0.0, 0.0, 0.0],
    "scene.views.count": 96,
    "anchors.geometry": 5.0,
    "anchors.colour": 0.0,
    "anchors.first": 0.05,
    "anchors.multiplier": 1.3,
    "densify.percent": 0.01,
    "densify.max_size": 0.1,
    "densify.stop": 1500,
    "optimizer.clamp_colours": False,
    "optimizer.rates.means": 1.6e-4,
    "optimizer.rates.opacities": 0.04,
    "optimizer.rates.sh0": 0.01,
    "metrics.compat": True,
}
OFFICIAL_IP2P = OFFICIAL | {
    "diffusion.name": "ip2p",
    "guidance._target_": "gs_ssd.guidance.SSDIP2P",
    "guidance.s_t": 7.5,
    "guidance.s_i": 1.5,
    "timesteps.ratio_min": 0.2,
    "timesteps.ratio_max": 0.9,
    "anchors.geometry": 50.0,
    "anchors.colour": 5.0,
    "anchors.opacity": 50.0,
    "anchors.scale": 50.0,
    "anchors.first": 1.0,
    "anchors.multiplier": 2.0,
    "optimizer.rates.opacities": 0.05,
    "optimizer.rates.sh0": 0.0125,
    "optimizer.rates.shN": 0.0125 / 20,
}
for name in ("w_p", "w_t", "w_e"):
    del OFFICIAL_IP2P[f"guidance.{name}"]


@pytest.mark.parametrize(("preset", "published"), [("official", OFFICIAL), ("official_ip2p", OFFICIAL_IP2P)])
def test_the_published_run_is_one_word(preset, published):
    cfg = compose(["scene=my.ply", "prompt.source=a", "prompt.target=b", f"preset={preset}"])
    assert {name: OmegaConf.select(cfg, name) for name in published} == published


def test_another_prior_than_a_presets_can_be_typed():
    for typed in ("diffusion=tiny", "diffusion=embedded", "diffusion=auto"):
        cfg = compose(["preset=official", "device=cpu", typed])
        name = "embedded" if typed == "diffusion=auto" else typed.partition("=")[2]
        assert name in str(cfg.diffusion) and (cfg.steps, cfg.densify.max_size) == (1500, 0.1)


def test_the_published_prompts_are_those_of_the_captures():
    captures = yaml.safe_load((CONFIGS / "evaluate" / "evaluate.yaml").read_text())["captures"]
    pairs = {(c["source"], c["target"]) for c in captures if c["scene"] in ("face", "person")}
    published = [compose([f"prompt={name}"]).prompt for name in options("prompt") if "published" in name]
    assert len(published) == 4 and {(prompt.source, prompt.target) for prompt in published} == pairs
    assert all(f"prompt={prompt.name}".startswith("prompt=published_") for prompt in published)


def test_retrieval_chooses_among_prompts_that_are_about_any_scene():
    candidates = measures_of(compose(["diffusion=embedded", "device=cpu"])).candidates
    assert "a photo of a clown" in candidates and not any("curly hair" in text for text in candidates)
