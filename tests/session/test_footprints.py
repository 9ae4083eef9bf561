"""What the doctor says of a GPU's memory is what the published configurations come to."""

from __future__ import annotations

import pytest

from gs_ssd.assets import ROOT
from gs_ssd.diffusion.adapters import TAESD
from gs_ssd.diffusion.load import ALIASES, TINY
from gs_ssd.errors import UserError
from gs_ssd.session.calibration import PHOTOS
from gs_ssd.session.footprints import (
    AUTOENCODER,
    ENCODE,
    ENCODE_TAESD,
    FOOTPRINTS,
    check_card,
    fitting,
    footprint,
    gpu_peak,
    levers,
    levers_of,
)
from tests.diffusion import footprint as counted


@pytest.mark.slow
@pytest.mark.parametrize("name", FOOTPRINTS)
def test_the_table_is_what_is_counted_on_the_meta_device(name):
    model, found = FOOTPRINTS[name], counted.footprint(name)
    assert model.network == pytest.approx(found["network"], rel=0.01)
    assert model.text == pytest.approx(found["text"], rel=0.02)
    assert model.predict == pytest.approx(found["predict"], rel=0.03)
    assert pytest.approx(found["autoencoder"], rel=0.02) == AUTOENCODER
    assert pytest.approx(found["encode"], rel=0.01) == ENCODE


@pytest.mark.slow
def test_activations_grow_with_the_area_at_most():
    small, large = counted.footprint("sd21", 512), counted.footprint("sd21", 1024)
    assert large["encode"] == pytest.approx(4 * small["encode"], rel=0.01)
    assert large["predict"] <= 4.01 * small["predict"]
    assert counted.encode_taesd() == pytest.approx(ENCODE_TAESD, rel=0.02)


def test_a_fused_attention_is_counted_without_its_matrix():
    """Of a known layer: what stays for the way back, and what a call without a gradient takes."""
    import torch

    q = torch.empty(1, 1, 1000, 64, device="meta", requires_grad=True)

    def attend() -> None:
        torch.nn.functional.scaled_dot_product_attention(q * 1, q * 1, q * 1).sum().backward()

    picture = 1000 * 64 * 4 / 1e9
    assert 4 * picture <= counted.peak(attend) < 9 * picture < 1000 * 1000 * 4 / 1e9


def test_every_model_of_the_page_is_known():
    assert all(footprint(name) for name in ALIASES if name not in ("embedded", *TINY))
    assert all(footprint(family) for family in PHOTOS)
    assert {name for name in PHOTOS if footprint(name).taesd} == set(TAESD)


@pytest.mark.parametrize("name", FOOTPRINTS)
def test_every_lever_lowers_the_peak(name):
    model, settings = FOOTPRINTS[name], []
    peaks = [gpu_peak(model, side=model.side, views=2)]
    for lever in levers_of(model, views=2):
        settings.append(lever)
        peaks.append(gpu_peak(model, side=model.side, views=2, settings=settings))
    assert peaks == sorted(peaks, reverse=True) and peaks[-1] < 0.8 * peaks[0]
    for peak in peaks:
        fits = fitting(model, peak, side=model.side, views=2)
        assert fits is not None and gpu_peak(model, side=model.side, views=2, settings=fits) <= peak
    assert fitting(model, peaks[-1] - 0.1, side=model.side, views=2) is None


def test_text_encoders_and_network_are_not_there_together():
    model = FOOTPRINTS["flux"]
    first, further, kept = (
        gpu_peak(model, side=512, settings=["diffusion.offload=none"] * none, again=again)
        for none, again in ((False, False), (False, True), (True, True))
    )
    assert further - first == pytest.approx(model.text - ENCODE) and kept - further == pytest.approx(ENCODE)


def test_a_card_that_weights_alone_overfill_is_refused():
    with pytest.raises(
        UserError, match=r"diffusion=flux needs 23\.8 GB .* the GPU has 16\.0 GB; use sd15, sd21,"
    ):
        check_card("flux", FOOTPRINTS["flux"], 16.0)
    for name, model in FOOTPRINTS.items():
        check_card(name, model, gpu_peak(model, side=512, settings=levers_of(model)))
    with pytest.raises(UserError, match=r"use embedded, or diffusion\.device=cpu"):
        check_card("sd21", FOOTPRINTS["sd21"], 2.0)


def test_what_runs_out_of_memory_is_told_what_its_family_has():
    assert "diffusion.vae_dtype=float16" in levers({"family": "sdxl"})
    assert "diffusion.vae=taesd" not in levers({"family": "pixart"})


def test_the_page_has_these_numbers():
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    for name, model in FOOTPRINTS.items():
        half, *taesd = levers_of(model)
        cells = []
        for side in (512, 1024):
            steps = ([], [half], *[[half, *taesd]] * len(taesd))
            cells += [f"{gpu_peak(model, side=side, settings=settings):.1f}" for settings in steps]
            cells += ["–"] * (not taesd)
        assert f"| `{name}` | {' | '.join(cells)} |" in page
