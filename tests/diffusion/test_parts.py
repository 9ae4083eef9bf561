"""Large parts stay in their files: text encoders while they encode, the network after them, and the same numbers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from gs_ssd.diffusion import parts
from gs_ssd.diffusion.fingerprint import fingerprint
from gs_ssd.diffusion.load import load_prior
from gs_ssd.diffusion.parts import bring
from gs_ssd.diffusion.tiny import MINIATURES, save_miniature
from gs_ssd.errors import UserError
from gs_ssd.guidance import CDS, DDS, SSD, VSD
from scripts.measure_loading import main
from tests.diffusion.test_adapters import save_lora
from tests.diffusion.test_families import step_of

FEW = ("sd", "sd3_t5")


def is_away(module) -> bool:
    return all(p.is_meta for p in module.parameters())


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def folder(folders):
    """A miniature's folder, written once."""

    def find(family: str) -> str:
        if not (folders / family).is_dir():
            save_miniature(family, folders / family)
        return str(folders / family)

    return find


@pytest.fixture
def all_stored(monkeypatch) -> None:
    """As if every network and text encoder were large."""
    monkeypatch.setattr(parts, "SMALL", 0)


@pytest.mark.parametrize(
    "family", [pytest.param(f, marks=[] if f in FEW else pytest.mark.slow) for f in MINIATURES]
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_family_says_the_same(family, dtype, folder, all_stored, monkeypatch):
    """Whether it is read at once or when it is wanted, and in the files' type (float32) or another."""
    stored = load_prior(folder(family), device="cpu", dtype=dtype)
    monkeypatch.setattr(parts, "SMALL", 1e12)
    plain = load_prior(folder(family), device="cpu", dtype=dtype)
    assert is_away(stored._network) and all(is_away(encoder) for encoder in stored.encoders)
    assert not is_away(plain._network) and not is_away(stored.vae)
    step, other = step_of(stored), step_of(plain)
    for name, text in other.text.items():
        assert all(map(torch.equal, step.text[name].tensors(), text.tensors()))
    asks = [(s.z_t, s.t, s.text["target"], s.image) for s in (step, other)]
    assert torch.equal(stored.predict_noise(*asks[0]), plain.predict_noise(*asks[1]))
    weights = stored.network.state_dict()
    assert weights.keys() == plain.network.state_dict().keys()
    assert all(torch.equal(weights[name], x) for name, x in plain.network.state_dict().items())
    assert not any(p.requires_grad for p in stored.network.parameters()) and not stored.network.training


@pytest.mark.parametrize("small", [0, 1e12], ids=["stored", "at once"])
def test_words_keep_their_places_in_half_precision(small, folder, monkeypatch):
    """Rotary frequencies are not rounded with the weights, as transformers itself has it."""
    monkeypatch.setattr(parts, "SMALL", small)
    (encoder,) = load_prior(folder("z_image"), device="cpu", dtype="bfloat16").keep_weights()[1:]
    assert encoder.dtype == torch.bfloat16 and encoder.model.rotary_emb.inv_freq.dtype == torch.float32


@pytest.mark.parametrize("family", FEW)
def test_text_encoders_and_network_are_never_there_together(family, folder, all_stored, monkeypatch):
    prior = load_prior(folder(family), device="cpu")
    read, whole = [], parts._whole

    def watched(model, part, dtype):
        if part in ("unet", "transformer"):
            assert all(is_away(encoder) for encoder in prior.encoders)
        else:
            assert is_away(prior._network) or "again" in read
        read.append(part)
        return whole(model, part, dtype)

    monkeypatch.setattr(parts, "_whole", watched)
    first = prior.encode_prompt(["a clown"])
    texts = [part for part in MINIATURES[family][0]() if part.startswith("text_encoder")]
    assert sorted(read) == sorted([*texts, "unet" if family == "sd" else "transformer"])
    assert all(is_away(encoder) for encoder in prior.encoders) and not is_away(prior._network)
    read.append("again")
    assert torch.equal(prior.encode_prompt(["a clown"]).hidden, first.hidden)
    assert len(read) == 2 * len(texts) + 2  # the network is not read a second time


def test_text_encoders_stay_where_that_is_asked_for(folder, all_stored):
    prior = load_prior(folder("sd"), device="cpu", offload="none")
    prior.encode_prompt(["a clown"])
    assert not is_away(prior.encoders[0]) and prior.about()["offload"] == "none"


def test_the_network_is_there_without_a_prompt(folder, all_stored):
    prior = load_prior(folder("sd"), device="cpu")
    assert not is_away(prior.network) and is_away(prior.encoders[0])


def test_a_lora_stays_in_the_weights(folder, all_stored, tmp_path):
    """What is melted into weights is not dropped with them."""
    save_lora("tiny", tmp_path / "lora")
    prior = load_prior(folder("sd"), device="cpu", lora=str(tmp_path / "lora"))
    before = prior.encode_prompt(["a clown"]).hidden
    assert not is_away(prior.encoders[0]) and not parts.is_stored(prior._network)
    assert torch.equal(prior.encode_prompt(["a clown"]).hidden, before)


def test_a_fingerprint_is_that_of_the_model_whatever_is_in_memory(folder, all_stored):
    prior, other = (load_prior(folder("sd"), device="cpu") for _ in range(2))
    before = fingerprint(prior)
    prior.encode_prompt(["a clown"])
    assert fingerprint(prior) == before == fingerprint(other)
    with torch.no_grad():
        next(prior.network.parameters()).view(-1)[0] += 1
    assert fingerprint(prior) != before


def test_half_precision_files_are_read_as_they_are(folder, all_stored, tmp_path):
    """float16 files in float16, in bfloat16 and in float32."""
    source = Path(shutil.copytree(folder("sd"), tmp_path / "model"))
    plain = load_prior(str(source), device="cpu")
    text = plain.encode_prompt(["a clown"]).hidden
    for part, stem in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ):
        file = source / part / f"{stem}.safetensors"
        half = {name: x.half() if x.is_floating_point() else x for name, x in load_file(file).items()}
        save_file(half, source / part / f"{stem}.fp16.safetensors", metadata={"format": "pt"})
        file.unlink()
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        prior = load_prior(str(source), device="cpu", dtype=dtype)
        found = prior.encode_prompt(["a clown"]).hidden
        assert prior.network.dtype == found.dtype == dtype and prior.vae.dtype == torch.float32
        assert_close(found.float(), text, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.slow), "bfloat16"])
def test_weights_in_several_files_are_read_alike(dtype, folder, all_stored, tmp_path):
    """As large transformers and text encoders are published."""
    made = save_miniature("sd3_t5", tmp_path / "model")
    whole = load_prior(folder("sd3_t5"), device="cpu", dtype="float32")
    for part, module in zip(("transformer", "text_encoder_3"), (whole._network, whole.encoders[2])):
        shutil.rmtree(made / part)
        bring(module, whole.device).save_pretrained(made / part, max_shard_size="100KB")
        assert len(list((made / part).glob("*.safetensors"))) > 1
    parted = load_prior(str(made), device="cpu", dtype=dtype)
    whole = load_prior(folder("sd3_t5"), device="cpu", dtype=dtype)
    step, other = step_of(parted), step_of(whole)
    assert torch.equal(step.text["target"].hidden, other.text["target"].hidden)
    asks = [(s.z_t, s.t, s.text["target"]) for s in (step, other)]
    assert torch.equal(parted.predict_noise(*asks[0]), whole.predict_noise(*asks[1]))


@pytest.mark.slow
@pytest.mark.parametrize("method", [SSD, VSD, lambda: CDS(DDS())], ids=["ssd", "vsd", "cds"])
def test_methods_that_look_into_the_network_find_it(method, folder, all_stored, monkeypatch):
    stored = load_prior(folder("sd"), device="cpu", cuda_graph=True)
    monkeypatch.setattr(parts, "SMALL", 1e12)
    found = []
    for prior in (stored, load_prior(folder("sd"), device="cpu")):
        guidance = method()
        guidance.prepare(prior)
        found.append(guidance(prior, step_of(prior)))
    assert_close(*found)


def test_a_stored_model_goes_to_float32_and_back(folder, all_stored):
    prior = load_prior(folder("sd"), device="cpu", dtype="float16")
    step = step_of(prior)
    before = prior.predict_noise(step.z_t, step.t, step.text["target"])
    with prior.in_float32():
        assert prior.network.dtype == torch.float32
    assert torch.equal(prior.predict_noise(step.z_t, step.t, step.text["target"]), before)


def test_weights_of_another_shape_are_one_line_before_the_first_step(folder, all_stored, tmp_path):
    source = Path(shutil.copytree(folder("sd"), tmp_path / "model"))
    config = json.loads((source / "unet" / "config.json").read_text())
    (source / "unet" / "config.json").write_text(json.dumps(config | {"cross_attention_dim": 16}))
    prior = load_prior(str(source), device="cpu")
    with pytest.raises(UserError, match=r"can't load the diffusion model .*: unet: ") as caught:
        prior.encode_prompt(["a clown"])
    assert "\n" not in str(caught.value)


MEASURE = """
import resource, sys
from pathlib import Path
import torch
from gs_ssd.diffusion.parts import _converted
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3  # MB; Linux counts kilobytes
before = peak()
kept = _converted([Path(sys.argv[1])], torch.bfloat16)
print(peak() - before, sum(x.nbytes for x in kept.values()) / 1e6)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts what Linux says of a process")
def test_converted_weights_take_their_own_memory_and_little_more(tmp_path):
    """512 MB in float32 become 256 MB; a file that is mapped as a whole would take all 768 MB."""
    names = (f"layer{i}.weight" for i in range(64))
    save_file({name: torch.ones(2_000_000) for name in names}, tmp_path / "x.safetensors")
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "x.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    taken, own = map(float, done.stdout.split())
    assert own == 256 and taken < own + 60


@pytest.mark.skipif(sys.platform != "linux", reason="counts what Linux says of a process")
def test_the_script_that_measures_says_what_it_counted(folder, capsys):
    main([folder("sd"), "bfloat16"])
    found = re.findall(r"(\d+\.\d\d)", capsys.readouterr().out)
    most, before, own, files = map(float, found)
    assert most >= before > 0 and own + files <= most + 0.02
