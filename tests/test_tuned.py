"""What suits a prior is loaded with it, by name, and a user's own value still wins."""

import pytest
from hydra import compose, initialize_config_dir

import gs_ssd.hydra_app  # noqa: F401  (registers the resolvers)
from gs_ssd.command_line import options
from gs_ssd.paths import CONFIGS

TUNED = [name.split("-") for name in options("tuned")]


def composed(config: str, *overrides: str):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(config, overrides=list(overrides))


def choose(start: str, diffusion: str, guidance: str, *overrides: str):
    choices = [f"diffusion={diffusion}", f"guidance={guidance}", *overrides]
    if start == "image":
        return composed("generate_image", "prompt.target=x", *choices)
    return composed("train", f"scene={start}", *choices)


@pytest.mark.parametrize(("start", "diffusion", "guidance"), TUNED, ids="-".join)
def test_every_file_belongs_to_choices_that_exist(start, diffusion, guidance):
    assert start == "image" or start in options("scene")
    assert diffusion in options("diffusion") and guidance in options("guidance")
    tuned, plain = choose(start, diffusion, guidance), choose(start, "tiny", guidance)
    assert (tuned.guidance, tuned.get("s")) != (plain.guidance, plain.get("s"))


def test_the_published_numbers_stay_where_nothing_is_tuned():
    assert choose("blob", "sd21", "sds").guidance.s == 100
    assert choose("blob", "sd21", "nfsd").guidance == composed("train", "guidance=nfsd").guidance
    assert choose("face", "embedded", "sds").guidance.s == 100


def test_a_users_value_wins():
    assert choose("blob", "embedded", "nfsd", "guidance.s=9").guidance.s == 9
    assert choose("image", "embedded", "nfsd", "guidance.s=9").guidance.s == 9
    assert choose("image", "embedded", "nfsd", "s=9").guidance.s == 9
    for prior, s in (("embedded", 4), ("sd21", 7.5)):
        assert choose("image", prior, "nfsd").guidance.s == s


def test_the_prior_moves_the_bounds_of_uniform_and_linear_timesteps_alone():
    for start, prior, rule, low in (
        ("blob", "embedded", "linear", 0.02),
        ("image", "embedded", "uniform", 0.02),
        ("face", "embedded", "uniform", 0.1),
        ("image", "embedded", "sqrt", 0.3),
        ("face", "ip2p", "linear", 0.2),
        ("face", "ip2p", "dreamtime", 0.02),
    ):
        assert choose(start, prior, "nfsd", f"timesteps={rule}").timesteps.ratio_min == low


def test_a_scene_from_nothing_brings_its_rates_whatever_the_prior():
    rates = [choose("blob", prior, "sds").optimizer.rates for prior in ("embedded", "sd21")]
    assert rates[0] == rates[1] != choose("face", "embedded", "sds").optimizer.rates
