"""Every choice composes for images too."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import gs_ssd.session.config  # noqa: F401  (registers the resolvers)
from gs_ssd.assets import CONFIGS
from tests.cli.test_configs import rows


@pytest.mark.slow
@pytest.mark.parametrize("config", ["edit_image", "generate_image"])
@pytest.mark.parametrize("choices", rows("prompt", "diffusion", "guidance", "timesteps"), ids=" ".join)
def test_choices_compose(config, choices):
    missing = {"prompt=custom": "prompt.target=x", "diffusion=folder": "diffusion.path=x"}
    further = [missing[choice] for choice in choices if choice in missing]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose(config, overrides=[*choices, *further])
    OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
