"""Priors by name."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch

from gs_ssd.assets import PRIOR
from gs_ssd.diffusion.load import ALIASES, load_prior, state_tf32
from gs_ssd.diffusion.tiny import tiny_parts
from gs_ssd.errors import UserError


def test_the_embedded_prior_by_name_and_by_folder():
    by_name, by_folder = load_prior("embedded", device="cpu"), load_prior(str(PRIOR), device="cpu")
    assert (by_name.name, by_name.family, by_name.freeu) == ("embedded", "embedded", False)
    assert (by_folder.family, by_folder.freeu) == ("embedded", False)
    words = [prior.encode_prompt(["a clown"]).hidden for prior in (by_name, by_folder)]
    assert torch.equal(*words)


@pytest.mark.skipif(torch.cuda.is_available(), reason="auto is sd21 there")
def test_auto_without_a_gpu_is_the_embedded_prior():
    assert load_prior().name == "embedded"


@pytest.mark.parametrize("image_condition, family", [(False, "sd"), (True, "ip2p")])
def test_a_folder_gets_what_its_family_gets(tmp_path, image_condition, family):
    for name, part in tiny_parts(image_condition=image_condition).items():
        part.save_pretrained(tmp_path / name)
    prior = load_prior(str(tmp_path), device="cpu")
    assert (prior.family, prior.freeu, prior.takes_image) == (family, True, image_condition)
    assert load_prior(str(tmp_path), device="cpu", freeu=False).freeu is False
    alias = load_prior("sd15", path=str(tmp_path), device="cpu", dtype="bfloat16")
    assert (alias.name, alias.freeu, alias.unet.dtype) == ("sd15", True, torch.bfloat16)


def test_miniatures():
    assert load_prior("tiny", device="cpu").family == load_prior("tiny_ip2p", device="cpu").family == "tiny"


@pytest.mark.parametrize(
    "name, hint", [("sd2.1", "did you mean sd21"), ("fluxx", "there are embedded, sd21")]
)
def test_a_mistyped_name(name, hint):
    with pytest.raises(UserError, match=hint):
        load_prior(name)


def test_a_mistyped_dtype():
    with pytest.raises(UserError, match=r"diffusion\.dtype=half is none of auto, float32, bfloat16, float16"):
        load_prior("embedded", dtype="half")


def test_every_alias_says_what_it_is_and_which_commit():
    assert all(alias.about for alias in ALIASES.values())
    hub = {
        name: alias.revision for name, alias in ALIASES.items() if alias.path and alias.path.count("/") == 1
    }
    assert {"sd15", "sd21", "ip2p"} <= set(hub)
    assert [name for name, commit in hub.items() if not re.fullmatch("[0-9a-f]{40}", commit or "")] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["embedded", "tiny_sd3", "a folder"])
def test_loading_says_nothing(name, tmp_path):
    """In a process of its own: no progress bars, no hints of the libraries below."""
    if name == "a folder":
        for part, module in tiny_parts().items():
            module.save_pretrained(tmp_path / part)
        name = str(tmp_path)
    code = f"from gs_ssd.diffusion.load import load_prior; load_prior({name!r}, device='cpu').encode_prompt(['a man'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_tf32_is_stated():
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    try:
        for flag in flags:
            flag.allow_tf32 = False
        state_tf32()
        assert all(flag.allow_tf32 for flag in flags)
    finally:
        for flag, value in zip(flags, before):
            flag.allow_tf32 = value
