"""Every choice composes for images too."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import gs_ssd.session.config  # noqa: F401  (registers the resolvers)
from gs_ssd.assets import CONFIGS
from gs_ssd.session.shorthands import options

CHOICES = [
    (group, name) for group in ("prompt", "diffusion", "guidance", "timesteps") for name in options(group)
]


@pytest.mark.slow
@pytest.mark.parametrize("config", ["edit_image", "generate_image"])
@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_choice_composes(config, group, name):
    extra = [] if group == "prompt" and name != "custom" else ["prompt.target=x"]
    extra += ["diffusion.path=x"] if name == "folder" else []
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose(config, overrides=[f"{group}={name}", *extra])
    OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
