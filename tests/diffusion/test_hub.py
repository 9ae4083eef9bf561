"""Hub models: the cache before the network, only what is needed, and the true reason where it fails."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from gs_ssd.diffusion.folders import recognise
from gs_ssd.diffusion.hub import _needed, fetch
from gs_ssd.errors import UserError
from tests.diffusion.test_folders import sd_folder

REPO = "someone/some-model"


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """A cache of its own; whoever asks the network fails the test."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def no_network(*args, **kwargs):
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    return tmp_path / "hub"


def put_in_cache(cache: Path) -> Path:
    repo = cache / ("models--" + REPO.replace("/", "--"))
    folder = sd_folder(repo / "snapshots" / "abc")
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("abc")
    return folder


def test_a_cached_model_needs_no_network(cache):
    """With a connection that is down, the hub's client used to wait for it four minutes first."""
    folder = put_in_cache(cache)
    assert fetch(REPO) == fetch(REPO, offline=True) == folder


def test_a_pinned_commit_is_taken_before_a_newer_one(cache):
    newest = put_in_cache(cache)
    pin = "0" * 40
    pinned = sd_folder(newest.parent / pin)
    assert fetch(REPO, pin=pin) == pinned and fetch(REPO) == newest
    assert fetch(REPO, revision="main", pin=pin) == newest  # what was asked for wins
    with pytest.warns(UserWarning, match=f"is in the cache as abc, not as {'1' * 12}: it is taken"):
        assert fetch(REPO, pin="1" * 40, offline=True) == newest
    with pytest.raises(UserError, match=r"not in the cache .*diffusion\.offline=true"):
        fetch(REPO, revision="1" * 40, offline=True)


def test_a_half_cached_model_says_so_offline(cache):
    folder = put_in_cache(cache)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(
        UserError, match=r"only part of it is in the cache .*unet needs weights.*diffusion\.offline=true"
    ):
        fetch(REPO, offline=True)


def test_offline_names_the_switch_that_forbids(cache, monkeypatch):
    with pytest.raises(
        UserError, match=r"not in the cache .*, and diffusion\.offline=true forbids .*diffusion\.path="
    ):
        fetch(REPO, offline=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE=1 forbids"):
        fetch(REPO)


def hub_error(kind: type[Exception]) -> Exception:
    """As the hub's client raises it, without the response that its constructor wants."""
    return kind.__new__(kind)


class ConnectError(Exception):
    """What HTTP clients call it."""


class ConnectTimeout(Exception):
    """What HTTP clients call it."""


@pytest.mark.parametrize(
    "error, message",
    [
        (
            lambda: hub_error(errors.GatedRepoError),
            "it is gated: accept its licence at https://",
        ),
        (lambda: hub_error(errors.RepositoryNotFoundError), "has no model of this name"),
        (lambda: hub_error(errors.RevisionNotFoundError), "it has no revision v7"),
        (lambda: ConnectError("Name or service not known"), "no connection to https://"),
        (lambda: ConnectTimeout("timed out"), "no connection to https://"),
        (lambda: OSError(28, "No space left on device"), "no space left in"),
        (lambda: RuntimeError("odd\nand long"), "odd; try again, or download it once"),
    ],
)
def test_the_true_reason_is_named(cache, monkeypatch, error, message):
    def fail(*args, **kwargs):
        raise error()

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fail)
    with pytest.raises(UserError) as caught:
        fetch(REPO, revision="v7")
    text = str(caught.value)
    assert text.startswith(f"can't load the diffusion model {REPO}: ") and message in text
    assert "\n" not in text


def test_an_unsupported_model_is_refused_before_its_weights(cache, monkeypatch, tmp_path):
    asked = []

    def small_files(repo, *, allow_patterns=None, local_files_only=False, **kwargs):
        if local_files_only:
            raise errors.LocalEntryNotFoundError("no")
        asked.append(allow_patterns)
        return str(sd_folder(tmp_path / "wan", index={"_class_name": "WanPipeline"}))

    files = [SimpleNamespace(rfilename="model_index.json")]
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *a, **k: SimpleNamespace(siblings=files))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", small_files)
    with pytest.raises(UserError, match="holds a WanPipeline"):
        fetch(REPO)
    assert len(asked) == 1 and not any("safetensors" in pattern for pattern in asked[0])


NAMES = [
    "unet/diffusion_pytorch_model.safetensors",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/diffusion_pytorch_model.bin",
    "vae/diffusion_pytorch_model-00001-of-00002.safetensors",
    "vae/diffusion_pytorch_model-00002-of-00002.safetensors",
    "vae/diffusion_pytorch_model.safetensors.index.json",
    "text_encoder/model.safetensors",
    "text_encoder/model.fp16.safetensors",
    "safety_checker/model.safetensors",
    "v1-5-pruned.safetensors",
]


@pytest.mark.parametrize("half, chosen", [(True, [1, 4, 5, 6, 8]), (False, [0, 4, 5, 6, 7])])
def test_only_the_needed_files_are_loaded(tmp_path, half, chosen):
    model = recognise(sd_folder(tmp_path / "model"))
    assert _needed(model, NAMES, half) == [NAMES[i] for i in chosen]
    with pytest.raises(UserError, match="no weights of text_encoder as safetensors"):
        _needed(model, [*NAMES[:7], "text_encoder/pytorch_model.bin"], half)
