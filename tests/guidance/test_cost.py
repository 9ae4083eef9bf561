"""What a step of every shipped method costs, counted where the network is called."""

from functools import cache

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

import gs_ssd.session.config  # noqa: F401  (registers the resolvers)
from gs_ssd.assets import CONFIGS
from gs_ssd.diffusion.tiny import tiny_prior
from gs_ssd.guidance import Step, encode_prompts
from tests.methods import DISTILLED

# config, settings → images per call of the network, for one view; t = 501 but where it is named
COSTS = {
    ("ssd",): [4],
    ("ssd", "guidance.w_e=0"): [3],
    ("ssd", "guidance.w_e=0", "guidance.w_t=0"): [2],
    ("ssd_paper",): [3],
    ("ssd_ip2p",): [4],
    ("dreamcatalyst_ip2p",): [5],
    ("dds",): [4],
    ("csd",): [2],
    ("csd", "guidance.w_b=5"): [3],
    ("csd", "guidance.w_b=0"): [2],
    ("nfsd",): [3],
    ("nfsd", "t=199"): [2],
    ("sds",): [2],
    ("pds",): [4],
    ("dreamcatalyst",): [4],
    ("cds",): [4, 1, 1],  # DDS, then the features of source and target, the latter with a graph
    ("ssd_cds",): [4, 1, 1],
    ("vsd",): [2, 1, 1],  # the prior, its twin, the twin's training step
}


@cache
def configured(*settings: str):
    """The guidance's settings; composing them takes longer than a step of a miniature."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", overrides=[*settings, "diffusion=sd21"]).guidance


@pytest.mark.parametrize("case", COSTS, ids=" ".join)
@pytest.mark.parametrize("views", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_images_per_call_of_the_network(case, views):
    name, *settings = case
    t = int(settings.pop()[2:]) if settings and settings[-1].startswith("t=") else 501
    guidance = instantiate(configured(f"guidance={name}", *settings))
    prior = tiny_prior(image_condition=guidance.takes_image)
    calls: list[int] = []
    # A twin of the network (VSD's) is a copy of it, hooks included.
    prior.unet.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0])))
    z, z_src, noise, image = torch.randn(4, views, prior.latent_channels, 8, 8)
    text = encode_prompts(prior, target="a clown", source="a man", negative="ugly")
    image = image if prior.takes_image else None
    generator = torch.Generator().manual_seed(0)
    guidance(prior, Step(z, z_src, noise, t, prior.schedule, text, image, generator))
    assert calls == [views * count for count in COSTS[case]]
    training = 1 if name == "vsd" else 0
    assert guidance.evaluations(t, prior.schedule) == sum(COSTS[case]) - training


def test_every_method_has_its_cost():
    assert {case[0] for case in COSTS} == set(DISTILLED)
