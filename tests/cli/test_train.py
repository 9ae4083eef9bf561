"""The front door, run as a user runs it: files in, files out, one-line errors."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio_ffmpeg
import pytest
import torch
from PIL import Image

from gs_ssd.cli import edit as front_door
from gs_ssd.cli.convert import main as convert
from gs_ssd.render import compile_kernels
from gs_ssd.scene import load_gaussians, save_gaussians
from tests.methods import METHODS
from tests.synthetic import random_gaussians
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
FAST = [
    "diffusion=tiny",
    "device=cpu",
    "resolution=64",
    "render.frames=4",
    "render.size=64",
    "render.sheet_size=48",
    "render.sheet_views=4",
    'prompt.source="a photo"',
    'prompt.target="a drawing"',
]


def train(*overrides: str, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *overrides],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        **kwargs,
    )


@pytest.fixture(scope="module")
def scene_path(tmp_path_factory) -> Path:
    compile_kernels()  # or else the first edit says that it does
    path = tmp_path_factory.mktemp("scene") / "ball.ply"
    save_gaussians(random_gaussians(400, sh_degree=1), path)
    return path


@pytest.mark.slow
def test_a_run_leaves_what_the_user_came_for(scene_path, tmp_path):
    out = tmp_path / "out"
    result = train(
        f"scene={scene_path}", *FAST, "steps=12", "densify.start=4", "densify.every=4", f"output_dir={out}"
    )
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.strip().splitlines()) == 6  # what it does, and a summary of five lines
    edited = load_gaussians(out / "edited.ply")
    assert edited.sh_degree == 1
    for video, width in (("turntable.mp4", 64), ("before_after.mp4", 128)):
        frames = imageio_ffmpeg.read_frames(str(out / video))
        meta = next(frames)
        assert meta["size"] == (width, 64) and "yuv420p" in meta["pix_fmt"] and meta["codec"] == "h264"
        assert sum(1 for _ in frames) == 4
    for picture in ("before_after.png", "loss.png"):
        Image.open(out / picture).verify()
    manifest = json.loads((out / "run.json").read_text())
    assert manifest["steps_done"] == 12 and manifest["config"]["seed"] == 0
    assert manifest["output"]["gaussians"] == len(edited) > 400
    assert not list(out.glob(".*"))


@pytest.mark.slow
def test_same_seed_same_scene(scene_path, tmp_path):
    for name in ("a", "b"):
        train(f"scene={scene_path}", *FAST, "steps=3", "no_edit_guard=false", f"output_dir={tmp_path / name}")
    first, second = (load_gaussians(tmp_path / name / "edited.ply") for name in ("a", "b"))
    for name, value in first.tensors().items():
        assert torch.equal(value, second.tensors()[name])


@pytest.mark.parametrize("guidance, prior", METHODS)
def test_every_method_edits_a_scene(guidance, prior, scene_path, tmp_path, monkeypatch, capsys):
    settings = [*FAST[1:], f"diffusion={prior}", f"guidance={guidance}", "steps=3", "no_edit_guard=false"]
    settings.append(f"output_dir={tmp_path}")
    code, errors = call(monkeypatch, capsys, f"scene={scene_path}", *settings)
    assert (code, errors) == (0, [])
    before, after = load_gaussians(scene_path), load_gaussians(tmp_path / "edited.ply")
    assert not torch.equal(before.sh0, after.sh0) and after.sh0.isfinite().all()
    assert json.loads((tmp_path / "run.json").read_text())["steps_done"] == 3


@pytest.mark.slow
def test_names_with_spaces_and_of_any_script(scene_path, tmp_path, monkeypatch, capsys):
    """Of the folder, the scene and the prompt, through every file that is written."""
    place = tmp_path / "mein Ordner" / "頭"
    place.mkdir(parents=True)
    shutil.copy(scene_path, place / "Büste 頭 (1).ply")
    monkeypatch.chdir(place)
    typed = [
        "scene=Büste 頭 (1).ply",
        "prompt.source=ein Mann",
        "prompt.target=一个小丑 🤡",
        "prompt.name=null",
    ]
    code, errors = call(monkeypatch, capsys, *typed, *FAST[:-2], "steps=2", "no_edit_guard=false")
    assert (code, errors) == (0, [])
    (out,) = (place / "outputs" / "Büste 頭 (1)").glob("*/*")
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["prompts"]["target"] == "一个小丑 🤡"
    assert "一个小丑 🤡" in (out / "report.html").read_text(encoding="utf-8")
    for video in ("turntable.mp4", "before_after.mp4"):
        assert next(imageio_ffmpeg.read_frames(str(out / video)))["codec"] == "h264"
    assert convert([str(out / "edited.ply"), str(place / "für alle 頭.spz")]) == 0
    assert len(load_gaussians(place / "für alle 頭.spz")) == len(load_gaussians(out / "edited.ply"))


@pytest.mark.slow
@pytest.mark.parametrize("preset, prior", [("official", "tiny"), ("official_ip2p", "tiny_ip2p")])
def test_the_published_run_runs(preset, prior, scene_path, tmp_path, monkeypatch, capsys):
    settings = [*FAST[1:], f"diffusion={prior}", f"preset={preset}", "steps=2", "no_edit_guard=false"]
    settings += [f"output_dir={tmp_path}", "metrics.clip=data/judge", "metrics.size=32"]
    code, errors = call(monkeypatch, capsys, f"scene={scene_path}", *settings)
    assert (code, errors) == (0, [])
    assert json.loads((tmp_path / "metrics.json").read_text())["clip_direction_compat"] is not None
    code, errors = call(monkeypatch, capsys, f"scene={scene_path}", *settings, "metrics.views=19")
    assert code == 2 and "needs 20 views, here are 19" in errors[0]  # before the edit, not after it


@pytest.mark.slow
def test_no_edit_guard(scene_path, tmp_path, monkeypatch, capsys):
    still = [f"optimizer.rates.{name}=0" for name in ("scales", "quats", "opacities", "sh0", "shN")]
    still += ["optimizer.rates.means=1e-30", "optimizer.rates.means_final=1e-30", "densify.start=99"]
    typed = [f"scene={scene_path}", *FAST, "steps=3", *still, f"output_dir={tmp_path / 'out'}"]
    code, errors = call(monkeypatch, capsys, *typed)
    assert (
        code == 3 and "changed next to nothing" in errors[-1] and (tmp_path / "out" / "edited.ply").is_file()
    )
    assert call(monkeypatch, capsys, *typed, "no_edit_guard=false") == (0, [])


@pytest.mark.slow
def test_interrupt_stops_and_still_exports(scene_path, tmp_path):
    process = subprocess.Popen(
        [
            sys.executable,
            str(ROOT / "train.py"),
            f"scene={scene_path}",
            *FAST,
            "steps=100000",
            f"output_dir={tmp_path}",
        ],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    while "0 % (1 of 100000 steps)" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    process.stderr.read()
    assert process.wait(timeout=PATIENCE) == 0
    manifest = json.loads((tmp_path / "run.json").read_text())
    assert 0 < manifest["steps_done"] < 100000 and (tmp_path / "edited.ply").is_file()


def call(monkeypatch, capsys, *overrides: str) -> tuple[int, list[str]]:
    """Run in this process: (exit code, lines of stderr that are no warning and no progress)."""
    code = front_door.main(list(overrides))
    lines = capsys.readouterr().err.splitlines()
    return code, [
        line for line in lines if not line.startswith("warning") and " steps), " not in line and line
    ]


BAD = {
    "stepz=3": "no setting is called stepz (did you mean steps?)",
    "scene=fase": "no scene is called 'fase' (did you mean face?)",
    "guidance=sdd": "no guidance is called 'sdd'",
    "scene=missing.ply": "missing.ply",
    "scene.cameras=nowhere": "nowhere",
    "steps=0": "steps=0 must be",
    "resolution=100": "resolution=100 is not divisible by 8; try resolution=96",
    "device=tpu": "device=tpu is none of",
    "prompt.target=a photo": "equals prompt.source",
    'prompt.target=""': "prompt.target is empty",
    "diffusion=./nowhere": "nowhere",
    "guidance=ssd_ip2p": "use diffusion=ip2p",
    "output_dir=/proc/nowhere": "/proc/nowhere",
    "scene.up=north": "north",
    "guidance.w_t=much": "guidance.w_t=much must be a number",
    "densify.every=often": "densify.every=often must be a whole number",
    "metrics.views=few": "metrics.views=few must be a whole number",
    "metrics.among=clown": "metrics.among=clown must be a list of prompts",
    "prompt=a_red_apple": "for words of your own use prompt.target=",
    "guidance=[ssd,dds]": "choose one of cds, csd, ddim_inversion, dds",
    "guidance=null": "guidance=null: choose one of",
    "guidance=1.5e2": "guidance=1.5e2: choose one of",
    "timesteps=5": "timesteps=5: choose one of",
    "guidance._target_=os.system": "guidance._target_=os.system is refused: Target 'os.system' is blocklisted",
    "checkpoint=''": "checkpoint= is not one setting",
    "scene.view_words=0.5": "scene.view_words=0.5 must be words for front, side and back",
    "diffusion.lora=" + "x" * 300: "diffusion.lora=xxx",
    "diffusion=./" + "x" * 300: "xxx",
    "scene.parts=nan": "scene.parts=nan must be a file of labels",
    "guidance.w_p={a:1}": "guidance.w_p={'a': 1} must be a number",
    "scene.views=inf": "scene.views=inf is not one setting",
    "optimizer.rates._target_=1e30": "optimizer.rates._target_=1e+30: there is nothing of this name",
    "timesteps._target_=[[1]]": "timesteps._target_=[[1]]: there is nothing of this name",
    "guidance._target_=ssd": "guidance._target_=ssd: there is nothing of this name",
    "diffusion.freeu=much": "diffusion.freeu=much must be true or false",
    "no_edit_guard=abc": "no_edit_guard=abc must be true or false",
    "metrics.among=[clwn]": "metrics.among: no prompt is called 'clwn'",
    "prompt.target=" + "word " * 500: "500 words",
    "prompt.target=caf\udce9": r"prompt.target='caf\udce9' has bytes that are no UTF-8 text",
    "prompt.negative=caf\udce9": r"prompt.negative='caf\udce9' has bytes that are no UTF-8 text",
    "prompt.target=???": "prompt.target is missing",
    "prompt.target=null": "prompt.target is empty",
}


@pytest.mark.parametrize("override", BAD, ids=[ascii(key[:24]) for key in BAD])
def test_bad_input_is_one_line_and_exit_code_2(override, scene_path, tmp_path, monkeypatch, capsys):
    overrides = [f"scene={scene_path}", *FAST, "steps=1", f"output_dir={tmp_path / 'out'}", override]
    if override.startswith("scene="):
        overrides = overrides[1:]
    if override.startswith("diffusion="):
        overrides.remove("diffusion=tiny")
    code, lines = call(monkeypatch, capsys, *overrides)
    assert code == 2
    assert len(lines) == 1 and lines[0].startswith("error: ") and BAD[override] in lines[0]
    assert not (tmp_path / "out").exists()


def test_a_prompt_of_ones_own_needs_a_target(scene_path, monkeypatch, capsys):
    code, lines = call(monkeypatch, capsys, f"scene={scene_path}", "diffusion=tiny", "prompt.source=a ball")
    assert code == 2 and len(lines) == 1
    assert lines[0].startswith("error: prompt.target is missing; say it in words")


def test_hydras_own_flags_keep_their_values(scene_path):
    shown = train(f"scene={scene_path}", "--cfg", "job", "diffusion=embedded", "--resolve")
    assert shown.returncode == 0, shown.stderr
    assert "ratio_min: 0.05" in shown.stdout  # what the prior brings is resolved
