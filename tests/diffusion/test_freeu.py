"""FreeU touches what the official code touches, and nothing else."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch.testing import assert_close

from gs_ssd.diffusion.freeu import enable_freeu, filter_low_frequencies
from gs_ssd.diffusion.tiny import tiny_prior
from gs_ssd.guidance import CDS, DDS, SSD, DreamCatalyst, Step, encode_prompts

PROMPTS = {"target": "a clown", "source": "a man"}


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    """Stable Diffusion's blocks with its channel ratios 1 : 2 : 4 : 4, a tenth as wide."""
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64, 128, 128),
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        layers_per_block=2,
        norm_num_groups=8,
        cross_attention_dim=16,
        attention_head_dim=8,
    ).eval()


@pytest.fixture
def predict(unet):
    generator = torch.Generator().manual_seed(1)
    z_t = torch.randn(1, 4, 16, 16, generator=generator)
    text = torch.randn(1, 5, 16, generator=generator)
    return lambda: unet(z_t, 300, text).sample.detach()


@pytest.fixture
def hooked(unet):
    """(b1=2, b2=3, s1=1, s2=1) and the resnets it hooks, as (up block, resnet)."""
    with enable_freeu(unet, b1=2.0, b2=3.0, s1=1.0, s2=1.0):
        yield unet


def factors_by_place(unet) -> dict[tuple[int, int], float]:
    """What each hook multiplies the first channel with."""
    found = {}
    for b, block in enumerate(unet.up_blocks):
        for r, resnet in enumerate(block.resnets):
            for hook in resnet._forward_pre_hooks.values():
                x = torch.ones(1, resnet.in_channels, 8, 8)
                found[b, r] = round(float(hook(resnet, (x,))[0][0, 0, 0, 0]))
    return found


def test_seven_and_three_resnets_are_hooked(hooked):
    wide = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)]
    half = [(2, 1), (2, 2), (3, 0)]
    assert factors_by_place(hooked) == dict.fromkeys(wide, 2) | dict.fromkeys(half, 3)


@pytest.mark.parametrize("place, hidden, factor", [((1, 2), 128, 2.0), ((3, 0), 64, 3.0)])
def test_only_the_first_half_of_the_hidden_state_is_boosted(hooked, place, hidden, factor):
    resnet = hooked.up_blocks[place[0]].resnets[place[1]]
    (hook,) = resnet._forward_pre_hooks.values()
    x = torch.randn(1, resnet.in_channels, 8, 8)
    time_embedding = torch.zeros(1, 1)
    changed, rest = hook(resnet, (x, time_embedding))
    assert rest is time_embedding
    assert_close(changed[:, : hidden // 2], factor * x[:, : hidden // 2])
    assert_close(changed[:, hidden // 2 :], x[:, hidden // 2 :], atol=1e-5, rtol=1e-5)


def test_with_unit_factors_it_is_the_identity(unet, predict):
    before = predict()
    with enable_freeu(unet, b1=1, b2=1, s1=1, s2=1):
        assert_close(predict(), before, atol=1e-5, rtol=1e-4)


def test_it_comes_off_again(unet, predict):
    before = predict()
    with enable_freeu(unet):
        assert float((predict() - before).abs().max()) > 1e-4
    assert torch.equal(predict(), before)


@pytest.mark.parametrize("side", [1, 2, 9, 16])
def test_the_filter_scales_the_central_bins_only(side):
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(side))
    filtered = filter_low_frequencies(x, 0.2)
    assert filtered.dtype == x.dtype
    spectrum, expected = torch.fft.fft2(filtered), torch.fft.fft2(x)
    # Frequencies −1 and 0 along both axes; the real part of the result averages each with its mirror image.
    for row in range(side):
        for column in range(side):
            bins = {(row, column), (-row % side, -column % side)}
            low = [r in (0, side - 1) and c in (0, side - 1) for r, c in bins]
            factor = sum(0.2 if is_low else 1.0 for is_low in low) / len(low)
            assert_close(
                spectrum[..., row, column], factor * expected[..., row, column], atol=1e-4, rtol=1e-4
            )


def test_only_the_methods_published_with_it_run_with_it():
    """A prior that has FreeU and one that has none, asked by one method after the other."""
    z, noise = torch.randn(2, 1, 4, 8, 8)
    z_src = z + 0.1
    plain, freeu = tiny_prior(), tiny_prior(freeu=True)

    def grads(guidance):
        return [
            guidance(prior, Step(z, z_src, noise, 300, prior.schedule, encode_prompts(prior, **PROMPTS)))
            for prior in (plain, freeu)
        ]

    for guidance in (SSD(), DDS(), DreamCatalyst(), CDS(DDS())):
        same = torch.allclose(*grads(guidance), atol=1e-6)
        assert same == isinstance(guidance, DDS | CDS), guidance.name
