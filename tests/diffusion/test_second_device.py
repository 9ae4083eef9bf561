"""`diffusion.device`: a prior on a second device beside the scene's, with the loop that the command line runs.

The second device is "meta" with its data kept: a tensor there holds one on the CPU, says that it is on another device,
and refuses, as a card does, to be mixed with what lies elsewhere. So every transfer must be where it belongs.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

from gs_ssd.cli.main import main
from gs_ssd.diffusion.load import load_prior
from gs_ssd.diffusion.tiny import tiny_prior
from gs_ssd.errors import UserError
from gs_ssd.guidance import CDS, SSD, SSDIP2P, VSD
from gs_ssd.scene.scene import Scene
from gs_ssd.session.edit import SceneEdit
from gs_ssd.session.image import ImageEdit
from gs_ssd.session.prompts import Prompts
from tests.synthetic import random_gaussians

SECOND = torch.device("meta")
COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class OnSecond(Tensor):
    """A tensor on the second device."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, data: Tensor) -> OnSecond:
        return Tensor._make_wrapper_subclass(
            cls,
            data.shape,
            strides=data.stride(),
            storage_offset=data.storage_offset(),
            dtype=data.dtype,
            device=SECOND,
        )

    def __init__(self, data: Tensor) -> None:
        self.held = data

    def tolist(self) -> list[float]:
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(function, args, kwargs or {})


class SecondDevice(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(function, args, kwargs or {})


def run(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    there = [x for x in tensors if isinstance(x, OnSecond)]
    here = [x for x in tensors if not isinstance(x, OnSecond) and x.dim() > 0]
    if there and here and function not in COPIES:
        raise RuntimeError(f"{function} mixes two devices")
    device = kwargs.get("device")
    stays = isinstance(args[0], OnSecond) if function in COPIES else bool(there)
    wraps = device == SECOND if device is not None else stays
    if not there and not wraps:
        return function(*args, **kwargs)
    if device is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    plain_args, plain_kwargs = tree_map(lambda x: x.held if isinstance(x, OnSecond) else x, (args, kwargs))
    out = function(*plain_args, **plain_kwargs)
    if not wraps:
        return out
    out = tree_map(lambda x: OnSecond(x) if isinstance(x, Tensor) else x, out)
    return return_and_correct_aliasing(function, args, kwargs, out)


PROMPTS = Prompts("a man", "a clown")


def scene_edit(device: torch.device, family: str, guidance) -> SceneEdit:
    prior = tiny_prior(family, device=device, freeu=family == "sd")
    scene = Scene.of(random_gaussians(200), name="small", views={"count": 3})
    return SceneEdit(scene, PROMPTS, prior=prior, guidance=guidance, num_steps=4, device="cpu", resolution=64)


@pytest.mark.parametrize(
    "family, method",
    [
        pytest.param("sd", SSD, id="sd-ssd"),
        pytest.param("ip2p", SSDIP2P, id="ip2p-ssd_ip2p", marks=pytest.mark.slow),
        pytest.param("sd", lambda: CDS(SSD()), id="sd-cds", marks=pytest.mark.slow),
        pytest.param("sd", VSD, id="sd-vsd", marks=pytest.mark.slow),
        pytest.param("sd3", SSD, id="sd3-ssd", marks=pytest.mark.slow),
        pytest.param("pixart", SSD, id="pixart-ssd", marks=pytest.mark.slow),
    ],
)
def test_a_prior_on_a_second_device_edits_alike(family, method):
    """With everything of the prior there and everything of the scene here; attention rounds otherwise there."""
    alone = scene_edit(torch.device("cpu"), family, method())
    for _ in alone:
        pass
    with SecondDevice():
        apart = scene_edit(SECOND, family, method())
        parts = [apart.prior.network, apart.prior.vae]
        assert {p.device for part in parts for p in part.parameters()} == {SECOND}
        assert {p.device.type for part in apart.prior.encoders for p in part.parameters()} == {"cpu"}
        losses = [report.loss for report in apart]
    assert losses == pytest.approx([report.loss for report in alone.reports], rel=1e-4)
    for name, tensor in apart.gaussians.tensors().items():
        assert type(tensor) is Tensor
        assert float((tensor - alone.gaussians.tensors()[name]).abs().mean()) < 1e-4, name


@pytest.mark.parametrize("space", ["latents", "pixels"])
def test_a_picture_is_edited_there_alike(space):
    rgb = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    found = []
    for device in (torch.device("cpu"), SECOND):
        with SecondDevice():
            edit = ImageEdit(rgb, PROMPTS, prior=tiny_prior(device=device), space=space, num_steps=3)
            for _ in edit:
                pass
            found.append(edit.finish().after.cpu())
    assert (
        float((found[0] - found[1]).abs().mean()) < 1e-5
    )  # where a gradient is next to nothing, Adam's sign is chance


def test_what_is_mixed_is_refused():
    """The check itself: without a transfer, it fails."""
    with SecondDevice():
        there = torch.zeros(2).to(SECOND)
        with pytest.raises(RuntimeError, match="mixes two devices"):
            there + torch.ones(2)
        assert torch.equal((there + torch.ones(2).to(SECOND)).cpu(), torch.ones(2))


@pytest.mark.skipif(torch.cuda.device_count() > 9, reason="it is there")
@pytest.mark.parametrize(
    "device, message",
    [
        ("cuda:9", r"diffusion\.device=cuda:9: torch sees \d CUDA GPUs here; use diffusion\.device=cpu"),
        ("gpu", r"diffusion\.device=gpu is none of auto, cpu, cuda, cuda:<index>"),
    ],
)
def test_a_device_that_is_not_there_is_one_line(device, message, capsys, tmp_path):
    with pytest.raises(UserError, match=message):
        load_prior("tiny", device=device)
    out = tmp_path / "out"
    settings = ["scene=face", "prompt=clown", "diffusion=tiny", "device=cpu", f"diffusion.device={device}"]
    assert main(["edit", *settings, f"output_dir={out}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: diffusion.device={device}") and said.count("\n") == 1
    assert not out.exists()
