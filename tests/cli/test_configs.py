"""Every choice of every group composes, and everything it names can be built."""

from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, get_method, instantiate
from omegaconf import OmegaConf

import gs_ssd.session.config  # noqa: F401  (registers the resolvers)
from gs_ssd.assets import CONFIGS
from gs_ssd.session.run import Method
from gs_ssd.session.shorthands import options

GROUPS = ("scene", "prompt", "diffusion", "guidance", "timesteps", "render")


def rows(*groups: str) -> list[tuple[str, ...]]:
    """Choices of each group side by side, in as few rows as hold them all."""
    columns = [[f"{group}={name}" for name in options(group)] for group in groups]
    return [tuple(c[i % len(c)] for c in columns) for i in range(max(map(len, columns)))]


@cache
def composed(*choices: str):
    missing = {"scene=file": "scene.path=x.ply", "prompt=custom": "prompt.target=x"}
    missing |= {"diffusion=folder": "diffusion.path=x"}
    further = [missing[choice] for choice in choices if choice in missing]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", overrides=[*choices, *further])


@pytest.mark.parametrize("choices", rows(*GROUPS), ids=" ".join)
def test_choices_compose(choices):
    OmegaConf.to_container(composed(*choices), resolve=True, throw_on_missing=True)


@pytest.mark.parametrize("choices", rows(*GROUPS)[: len(options("guidance"))], ids=lambda row: row[3])
def test_guidance_is_built_with_the_numbers_of_its_file(choices):
    node = composed(*choices).guidance
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
            assert Path(composed(f"scene={name}", "diffusion=embedded").scene.path).is_file()
