"""Where a GPU is too small, the line says what would help."""

from __future__ import annotations

import pytest
import torch

from gs_ssd.cli.app import EXIT_BAD_INPUT, answer
from gs_ssd.diffusion.load import load_prior
from gs_ssd.errors import UserError
from gs_ssd.session.footprints import levers
from gs_ssd.session.image import ImageEdit
from gs_ssd.session.prompts import Prompts


def full(*args, **kwargs):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_a_step_that_runs_out_of_memory_names_what_is_not_in_use(monkeypatch):
    for settings, missing in (
        ({}, {"diffusion.vae_dtype=float16", "diffusion.dtype=float16"}),
        ({"dtype": "float16", "vae_dtype": "float16"}, set()),
    ):
        prior = load_prior("tiny", device="cpu", offload="none", **settings)
        edit = ImageEdit(torch.rand(1, 64, 64, 3), Prompts("a man", "a clown"), prior=prior, num_steps=2)
        next(edit)
        with monkeypatch.context() as patch:
            patch.setattr(prior, "forward", full)
            with pytest.raises(
                UserError, match=r"out of memory at step 1; what lowers it: .*offload=text"
            ) as caught:
                next(edit)
        named = {
            name
            for name in ("diffusion.vae_dtype=float16", "diffusion.dtype=float16")
            if name in str(caught.value)
        }
        assert named == missing
        assert next(edit).step == 1  # and it goes on where it was


def test_levers_leave_out_what_is_in_use():
    all_of_them = levers({"offload": "none"}, views=4)
    assert {"views_per_step=1", "diffusion.offload=text", "diffusion.vae=taesd"} <= set(all_of_them)
    used = {"dtype": {"network": "float16", "vae": "float16"}, "offload": "text", "tiny_vae": True}
    assert levers(used) == ["a smaller resolution=", "a smaller model"]


def test_the_front_doors_line_names_levers(capsys):
    assert answer(full) == EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert all(name in said for name in ("views_per_step=", "vae_dtype=float16", "vae=taesd"))
