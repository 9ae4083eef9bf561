"""What is asked of a model that it can't do: one line from the command line, with what would work, and nothing left."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gs_ssd.cli.main import main
from gs_ssd.diffusion.load import load_prior
from gs_ssd.diffusion.tiny import save_miniature
from tests.diffusion.test_adapters import save_lora
from tests.diffusion.test_controlnet import save_controlnet
from tests.diffusion.test_folders import pipeline, without


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("models")
    pipeline("WanPipeline")(root / "wan")
    without("text_encoder")(root / "mute")
    save_miniature("sd3", root / "sd3")
    for file in (root / "sd3" / "text_encoder_2").iterdir():
        file.unlink()
    save_lora("tiny_sdxl", root / "lora")
    save_controlnet(load_prior("tiny_sdxl", device="cpu"), root / "control")
    return root


WRONG = {
    "an unsupported family": (
        "diffusion=<wan>",
        "holds a WanPipeline, which is not supported; supported are Stable",
    ),
    "a missing text encoder": ("diffusion=<mute>", "without text_encoder, which it needs; its parts are"),
    "an empty text encoder": ("diffusion=<sd3>", "text_encoder_2/config.json is missing"),
    "a LoRA for another base": (
        "diffusion=tiny diffusion.lora=<lora>",
        "doesn't fit tiny (random weights): its layers are those of another base model; choose one",
    ),
    "a LoRA where there are none": (
        "diffusion=tiny_pixart diffusion.lora=<lora>",
        "leave diffusion.lora=null",
    ),
    "a ControlNet for another base": (
        "diffusion=tiny diffusion.control=<control>",
        "was made for another base model",
    ),
    "a ControlNet for a transformer": (
        "diffusion=tiny_sd3 diffusion.control=depth",
        "use Stable Diffusion 1.x, 2.x",
    ),
    "a distilled model and ssd": ("diffusion=tiny_turbo guidance=ssd", "compares with the empty prompt"),
    "a distilled model and nfsd": ("diffusion=tiny_flux guidance=nfsd", "compares with the empty prompt"),
    "a consistency model and sds": ("diffusion=tiny_lcm guidance=sds", "compares with the empty prompt"),
    "a transformer and cds": ("diffusion=tiny_sd3 guidance=cds", "has no self-attention in its up blocks"),
    "a method of InstructPix2Pix": ("diffusion=tiny guidance=ssd_ip2p", "diffusion=ip2p"),
    "a type that there is not": (
        "diffusion=tiny diffusion.dtype=half",
        "none of auto, float32, bfloat16, float16",
    ),
    "an offload that there is not": ("diffusion=tiny diffusion.offload=all", "none of none, text"),
    "no tiny autoencoder": ("diffusion=tiny diffusion.vae=taesd", "there is none for tiny"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRONG)
def test_it_is_one_line_with_what_would_work(kind, models, tmp_path, capsys):
    settings, expected = WRONG[kind]
    typed = [word.replace("<", f"{models}/").replace(">", "") for word in settings.split()]
    out = tmp_path / "out"
    assert main(["edit", "scene=face", "prompt=clown", "device=cpu", *typed, f"output_dir={out}"]) == 2
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and expected in lines[0] and "Traceback" not in said
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_large_weights_that_do_not_fit_their_configuration_leave_nothing(part, tmp_path, capsys, monkeypatch):
    """They are read late, and still before the first step."""
    monkeypatch.setattr("gs_ssd.diffusion.parts.SMALL", 0)
    config = save_miniature("sd", tmp_path / "model") / part / "config.json"
    width = {"unet": '"cross_attention_dim": 32', "text_encoder": '"hidden_size": 32'}[part]
    assert width in config.read_text()
    config.write_text(config.read_text().replace(width, width.replace("32", "48")))
    out = tmp_path / "out"
    typed = [
        "scene=face",
        "prompt=clown",
        "device=cpu",
        f"diffusion={tmp_path / 'model'}",
        f"output_dir={out}",
    ]
    assert main(["edit", *typed]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert f"can't load the diffusion model {tmp_path / 'model'}: {part}: " in line
    assert "is it a complete diffusers folder?" in line and not out.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card, of another size")
def test_a_card_that_is_too_small_is_one_line_before_anything_is_read(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("gs_ssd.session.config.pick_device", lambda *_, **__: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=16e9))
    out = tmp_path / "out"
    assert main(["edit", "scene=face", "prompt=clown", "diffusion=flux", f"output_dir={out}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        "error: diffusion=flux needs 23.8 GB for weights alone, and the GPU has 16.0 GB; use sd15"
    )
    assert said.count("\n") == 1 and not out.exists()
