"""What is no supported model is named by its small files: one line, before weights, without loading diffusers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gs_ssd.diffusion.folders import CLASSES, SD, recognise
from gs_ssd.errors import UserError

SD_INDEX = {"_class_name": "StableDiffusionPipeline"} | {part: list(names) for part, names in CLASSES.items()}
HEADER = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
WHOLE = len(HEADER).to_bytes(8, "little") + HEADER + bytes(4)


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))


def sd_folder(
    folder: Path, *, index: dict | None = None, unet: dict | None = None, vae: dict | None = None
) -> Path:
    """Stable Diffusion's files, with weights of one number each."""
    write(folder / "model_index.json", index or SD_INDEX)
    write(folder / "unet" / "config.json", {"in_channels": 4} | (unet or {}))
    write(folder / "vae" / "config.json", {"latent_channels": 4} | (vae or {}))
    write(folder / "text_encoder" / "config.json", {})
    write(folder / "tokenizer" / "tokenizer_config.json", {})
    write(folder / "scheduler" / "scheduler_config.json", {})
    for part, stem in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ):
        write(folder / part / f"{stem}.safetensors", WHOLE)
    return folder


def pipeline(name: str):
    return lambda folder: sd_folder(folder, index={"_class_name": name})


def without(part: str):
    return lambda folder: sd_folder(folder, index={k: v for k, v in SD_INDEX.items() if k != part})


def put(name: str, content: object):
    return lambda folder: write(folder / name, content)


def sharded(folder: Path) -> None:
    sd_folder(folder)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    index = {"weight_map": {"x": "diffusion_pytorch_model-00001-of-00002.safetensors"}}
    write(folder / "unet" / "diffusion_pytorch_model.safetensors.index.json", index)


WRONG = {
    "a video model": (pipeline("WanPipeline"), "holds a WanPipeline, which is not supported"),
    "the SDXL refiner": (pipeline("StableDiffusionXLImg2ImgPipeline"), "StableDiffusionXLImg2ImgPipeline"),
    "a Kandinsky model": (pipeline("KandinskyV22Pipeline"), "supported are Stable Diffusion"),
    "a pixel-space model": (pipeline("IFPipeline"), "holds a IFPipeline"),
    "an ONNX pipeline": (pipeline("OnnxStableDiffusionPipeline"), "OnnxStableDiffusionPipeline"),
    "an inpainting model": (lambda f: sd_folder(f, unet={"in_channels": 9}), "an inpainting model"),
    "a depth model": (lambda f: sd_folder(f, unet={"in_channels": 5}), "a depth model"),
    "an upscaler": (lambda f: sd_folder(f, unet={"in_channels": 7}), "an upscaling model"),
    "SDXL under another name": (
        lambda f: sd_folder(f, unet={"addition_embed_type": "text_time"}),
        "must name a StableDiffusionXLPipeline",
    ),
    "SDXL with one text encoder": (pipeline("StableDiffusionXLPipeline"), "without unet, which it needs"),
    "no text encoder": (without("text_encoder"), "without text_encoder, which it needs"),
    "a ControlNet": (
        put("config.json", {"_class_name": "ControlNetModel"}),
        "one model (ControlNetModel), not a",
    ),
    "a language model": (
        put("config.json", {"architectures": ["LlamaForCausalLM"]}),
        "one model (LlamaForCausalLM)",
    ),
    "a LoRA": (put("pytorch_lora_weights.safetensors", WHOLE), "holds a LoRA; choose its base model"),
    "a checkpoint in a folder": (put("model.ckpt", b"x"), "holds model.ckpt, a single file"),
    "an empty folder": (lambda f: f.mkdir(), "unet, vae, text_encoder, tokenizer, scheduler missing"),
    "a broken index": (put("model_index.json", "{"), "can't be read as JSON"),
    "a list for an index": (put("model_index.json", "[]"), "holds no JSON object"),
    "missing shards": (sharded, "diffusion_pytorch_model-00001-of-00002.safetensors is missing"),
    "a cut download": (
        lambda f: write(sd_folder(f) / "unet" / "diffusion_pytorch_model.safetensors", WHOLE[:-2]),
        "is cut off at",
    ),
    "a web page for weights": (
        lambda f: write(sd_folder(f) / "vae" / "diffusion_pytorch_model.safetensors", b"<!DOCTYPE html>" * 9),
        "is no safetensors file",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_kinds_are_named(tmp_path, kind):
    make, expected = WRONG[kind]
    make(tmp_path / "model")
    with pytest.raises(UserError) as caught:
        recognise(tmp_path / "model")
    assert expected in str(caught.value) and str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_single_file_is_named(tmp_path):
    (tmp_path / "model.ckpt").write_bytes(b"x")
    with pytest.raises(UserError, match="is a single file; give a folder in diffusers format"):
        recognise(tmp_path / "model.ckpt")


@pytest.mark.slow
def test_a_wrong_kind_costs_seconds_and_no_diffusers(tmp_path):
    """In a process of its own, through the front of the room."""
    pipeline("WanPipeline")(tmp_path / "model")
    code = f"""
import sys, time, torch
started = time.process_time()
from gs_ssd.errors import UserError
from gs_ssd.diffusion.load import load_prior
try:
    load_prior({str(tmp_path / "model")!r}, device="cpu")
except UserError as error:
    print(error)
print(time.process_time() - started)
print("diffusers" in sys.modules)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "WanPipeline" in out and out.splitlines()[-1] == "False"
    assert float(out.splitlines()[-2]) < 3  # seconds of the processor, besides torch's own import


@pytest.mark.parametrize(
    "kind", ["a video model", "missing shards", "a cut download", "a web page for weights"]
)
def test_a_door_names_it_before_torch_is_imported(tmp_path, kind):
    make, expected = WRONG[kind]
    make(tmp_path / "model")
    code = "import sys; from gs_ssd.cli.main import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
    typed = ["edit", "scene=face", "prompt=clown", "device=cpu", f"diffusion={tmp_path / 'model'}"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code, *typed], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    (line,) = done.stderr.splitlines()
    assert done.stdout == "2 False\n" and expected in line


def test_half_precision_files_are_found_and_preferred_where_wanted(tmp_path):
    folder = sd_folder(tmp_path / "model")
    unet = folder / "unet"
    model = recognise(folder)
    assert model.weights("unet", half=True)[0] is None
    write(unet / "diffusion_pytorch_model.fp16.safetensors", WHOLE)
    assert model.weights("unet", half=True)[0] == "fp16" and model.weights("unet", half=False)[0] is None
    (unet / "diffusion_pytorch_model.safetensors").unlink()
    assert recognise(folder).weights("unet", half=False)[0] == "fp16"


@pytest.mark.parametrize(
    "scheduler, index, kind",
    [
        ({"_class_name": "LCMScheduler"}, {}, "lcm"),
        ({"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"}, {}, "turbo"),
        ({"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading"}, {}, ""),
        ({"_class_name": "DDIMScheduler", "timestep_spacing": "trailing"}, {}, ""),
        ({}, {"_class_name": "LatentConsistencyModelPipeline"}, "lcm"),
    ],
)
def test_models_of_few_steps_are_known_by_their_sampler(tmp_path, scheduler, index, kind):
    folder = sd_folder(tmp_path / "model", index=SD_INDEX | index)
    write(folder / "scheduler" / "scheduler_config.json", scheduler)
    assert recognise(folder).few_step == kind and recognise(folder).family is SD
