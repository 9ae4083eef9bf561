"""Every choice of every group composes, and everything it names can be built."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, get_method, instantiate
from omegaconf import OmegaConf

import gs_ssd.session.config  # noqa: F401  (registers the resolvers)
from gs_ssd.assets import CONFIGS
from gs_ssd.session.run import Method
from gs_ssd.session.shorthands import options

CHOICES = [
    (group, name)
    for group in ("scene", "prompt", "diffusion", "guidance", "timesteps", "render")
    for name in options(group)
]


def composed(*overrides: str):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", overrides=["diffusion=embedded", *overrides])


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_choice_composes(group, name):
    extra = {
        ("scene", "file"): ["scene.path=x.ply"],
        ("prompt", "custom"): ["prompt.target=x"],
        ("diffusion", "folder"): ["diffusion.path=x"],
    }.get((group, name), [])
    cfg = composed(f"{group}={name}", *extra)
    OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


@pytest.mark.parametrize("name", options("guidance"))
def test_guidance_is_built_with_the_numbers_of_its_file(name):
    node = composed(f"guidance={name}").guidance
    try:
        guidance = instantiate(node)
    except ImportError as error:  # optional extras
        pytest.skip(str(error))
    assert isinstance(guidance, Method)


@pytest.mark.parametrize("name", options("diffusion"))
def test_diffusion_names_a_loader(name):
    target = OmegaConf.load(CONFIGS / "diffusion" / f"{name}.yaml").get("_target_")
    if target is not None:
        module, _, attribute = target.rpartition(".")
        if module.rpartition(".")[2][:1].isupper():
            assert hasattr(get_class(module), attribute)
        else:
            assert callable(get_method(target))


def test_scenes_that_ship_exist():
    for name in options("scene"):
        if name not in ("file", "blob"):
            assert Path(composed(f"scene={name}").scene.path).is_file()
