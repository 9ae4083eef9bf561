"""What suits a prior, a canvas and a method is set for the user, and a value of their own still wins."""

import pytest
from omegaconf import OmegaConf

from gs_ssd.session.calibration import rows
from gs_ssd.session.config import SAMPLE, compose
from gs_ssd.session.shorthands import options

DOORS = {"scene": "train", "blob": "train", "image": "edit_image", "noise": "generate_image"}


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
    cfg = choose(row.canvas or "scene", prior, method, f"timesteps={row.rule or 'linear'}")
    for name, value in row.settings.items():
        got = OmegaConf.select(cfg, name, throw_on_missing=True)
        assert value is None or type(got) is type(value)


def test_the_published_numbers_stay_where_nothing_is_tuned():
    assert choose("blob", "sd21", "sds").guidance.s == 100
    assert choose("scene", "embedded", "sds").guidance.s == 100
    published = choose("scene", "sd21", "ssd").guidance
    assert (published.w_p, published.w_t, published.w_e, published.w_id) == (3.75, 1.0, 5.5, 0.075)


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
        ("scene", "embedded", "uniform", 0.1),
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
