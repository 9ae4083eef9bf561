"""The two scripts as a user runs them, on the random miniature."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gs_ssd
from gs_ssd.cli import edit as cli_edit
from gs_ssd.cli import generate, image
from gs_ssd.errors import UserError
from gs_ssd.session.run import Run
from tests.methods import METHODS
from tests.results.test_report import Page
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
PROMPTS = ["prompt.source=a man", "prompt.target=it's, a clown"]
TINY = ["diffusion=tiny", "device=cpu", "strip=3"]


@pytest.fixture
def photo(tmp_path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 72, 3), dtype=np.uint8)
    path = tmp_path / "my photo.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a script in this process; returns (exit code, stdout, lines of stderr that are no progress bar)."""

    def run(door, *overrides: str) -> tuple[int, str, list[str]]:
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
        code = door.main(list(overrides))
        out, err = capsys.readouterr()
        return code, out, [line for line in err.splitlines() if line.startswith(("error", "warning"))]

    return run


def edit(call, photo, tmp_path, *overrides: str, steps: int = 2):
    return call(
        image,
        f"image={photo}",
        *PROMPTS,
        *TINY,
        f"steps={steps}",
        f"output_dir={tmp_path / 'out'}",
        *overrides,
    )


@pytest.mark.parametrize("space", ["latents", "pixels"])
@pytest.mark.parametrize("guidance, prior", METHODS)
def test_an_edit_leaves_pictures_and_a_manifest(call, photo, tmp_path, space, guidance, prior):
    code, out, complaints = edit(
        call, photo, tmp_path, f"space={space}", f"guidance={guidance}", f"diffusion={prior}"
    )
    # the miniature reads 16 letters of NFSD's negative prompt
    complaints = [line for line in complaints if "unrealistic" not in line]
    assert (code, complaints) == (0, [])
    assert len(out.strip().splitlines()) == 5
    folder = tmp_path / "out"
    names = {"before.png", "after.png", "progress.png", "report.html", "run.json"}
    assert {path.name for path in folder.iterdir()} == names
    before, after = (np.asarray(Image.open(folder / name), float) for name in ("before.png", "after.png"))
    assert np.array_equal(before, np.asarray(Image.open(photo), float))
    assert after.shape == before.shape and np.abs(after - before).mean() > 1
    assert Image.open(folder / "progress.png").width > 3 * 190
    report = json.loads((folder / "run.json").read_text())
    assert report["steps_done"] == 2 and report["change"]["mean"] > 0
    assert report["config"]["prompt"]["target"] == "it's, a clown"


def test_an_edit_ends_with_a_page_that_needs_no_network(call, photo, tmp_path):
    Image.linear_gradient("L").resize((72, 64)).convert("RGB").save(photo)
    edit(call, photo, tmp_path, "prompt.target=a <clown>")
    text = (tmp_path / "out" / "report.html").read_text()
    page = Page(text)
    loaded = [address for address in page.addresses if address.startswith("data:image/webp")]
    assert len(loaded) == 3  # before, after, progress.png
    linked = set(page.addresses) - set(loaded)
    assert linked == {"before.png", "after.png", "progress.png", "run.json"}
    for expected in (
        "a man",
        "a <clown>",
        "72 × 64",
        "mean change",
        "Score loss",
        "Timestep t",
        "guidance",
        "prior",
    ):
        assert expected in page.words, expected
    assert "http" not in re.sub(r'"data:[^"]*"', "", text)
    before, after = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(u.partition(",")[2])))) for u in loaded[:2]
    )
    assert np.abs(before.astype(float) - np.asarray(Image.open(photo), float)).mean() < 4  # WebP
    assert before.shape == after.shape and not np.array_equal(before, after)


@pytest.mark.parametrize(
    "door, space",
    [
        ("image", "latents"),
        pytest.param("image", "pixels", marks=pytest.mark.slow),
        pytest.param("generate", "latents", marks=pytest.mark.slow),
    ],
)
def test_an_edit_that_was_stopped_goes_on_to_the_same_bytes(call, photo, tmp_path, door, space, monkeypatch):
    """Stopped by a signal after its third step of six; the report of the whole names the command that began it."""
    place = {"image": image, "generate": generate}[door]
    made = "after.png" if door == "image" else "image.png"
    typed = [*TINY, "steps=6", "prompt.target=a clown"]
    typed += [f"image={photo}", "prompt.source=a man", f"space={space}"] * (door == "image")
    monkeypatch.setattr("sys.argv", ["gs-ssd", door, *typed])
    assert call(place, *typed, f"output_dir={tmp_path / 'whole'}")[0] == 0

    step = Run.__next__

    def stopped(run):
        report = step(run)
        if run.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return report

    part = tmp_path / "part"
    with monkeypatch.context() as patched:
        patched.setattr(Run, "__next__", stopped)
        code, out, _ = call(place, *typed, f"output_dir={part}")
    assert code == 0 and f"resume   gs-ssd {door} resume={part}" in out and "3 of 6 steps" in out
    other = {"image": "generate", "generate": "image"}[door]
    code, _, complaints = call({"image": image, "generate": generate}[other], f"resume={part}")
    assert code == 2 and complaints == [
        f"error: {part} is a run of gs-ssd {door}; resume it there: gs-ssd {door} resume={part}"
    ]
    monkeypatch.setattr("sys.argv", ["gs-ssd", door, f"resume={part}"])
    assert call(place, f"resume={part}")[0] == 0
    for name in (made, "progress.png"):
        assert (part / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (part / "checkpoint.safetensors").exists()
    assert json.loads((part / "run.json").read_text())["command"] == ["gs-ssd", door, *typed]
    code, _, complaints = call(place, f"resume={part}")
    assert code == 2 and "a finished run has none" in complaints[0]


def test_what_cannot_be_resumed(call, photo, tmp_path, monkeypatch):
    assert call(image, "resume=nowhere")[2][0].startswith("error: no such checkpoint: nowhere")
    assert "a resumed run keeps its own settings" in call(image, "resume=nowhere", "steps=3")[2][0]
    prompts = gs_ssd.Prompts("a man", "a clown")
    run = gs_ssd.ImageEdit(photo, prompts, prior=gs_ssd.load_prior("tiny"), num_steps=2)
    next(run)
    run.save_checkpoint(tmp_path / "part")
    assert "use gs_ssd.ImageEdit.resume, which made it" in call(image, f"resume={tmp_path / 'part'}")[2][0]
    said = call(cli_edit, f"resume={tmp_path / 'part'}")[2][0]
    assert "is the checkpoint of a picture; use gs-ssd image resume=" in said
    Image.new("RGB", (72, 64)).save(photo)
    with pytest.raises(UserError, match="is a checkpoint of another picture"):
        gs_ssd.ImageEdit.resume(tmp_path / "part", prior=gs_ssd.load_prior("tiny"))


def test_a_seed_repeats_an_edit(call, photo, tmp_path):
    pictures = []
    for seed in (1, 1, 2):
        edit(call, photo, tmp_path, f"seed={seed}")
        pictures.append((tmp_path / "out" / "after.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


def test_other_sizes_warn_once(call, photo, tmp_path):
    Image.open(photo).crop((0, 0, 61, 50)).save(photo)
    code, _, complaints = edit(call, photo, tmp_path)
    assert code == 0
    assert complaints == [
        "warning: my photo.png is resized from 61x50 to 64x48 pixels: the model's sides are multiples of 8"
    ]


def test_images_far_from_the_priors_size_say_so(call, photo, tmp_path):
    Image.open(photo).resize((208, 160)).save(photo)
    code, _, complaints = edit(call, photo, tmp_path, steps=1)
    assert code == 0 and "size=64 resizes it" in complaints[0]
    code, _, complaints = edit(call, photo, tmp_path, "size=64", steps=1)
    assert (code, complaints) == (0, [])
    assert Image.open(tmp_path / "out" / "after.png").size == (80, 64)


BAD = {
    "image=nowhere.jpg": "no such image: nowhere.jpg",
    "image=" + str(ROOT / "LICENSE"): "is no image that can be read",
    "image=null": "image=photo.jpg",
    "prompt.source=null": "prompt.source is missing",
    "prompt.target=a man": "prompt.target equals prompt.source",
    "guidance=sd": "no guidance is called 'sd' (did you mean",
    "guidance=ssd_ip2p": "use diffusion=ip2p",
    "guidance.w_x=1": "no setting is called guidance.w_x",
    "guidance.w_t=much": "guidance.w_t=much must be a number",
    "guidance.w_t=null": "guidance.w_t=None must be a number",
    "guidance.w_t=nan": "guidance.w_t=nan must be a finite number",
    "timesteps.ratio_min=low": "timesteps.ratio_min=low must be a number",
    "timesteps.ratio_max=7": "timesteps.ratio_min=0.02 must not exceed timesteps.ratio_max=7",
    "space=fourier": "space=fourier must be one of latents, pixels",
    "stps=3": "no setting is called stps (did you mean steps?)",
    "steps=null": "steps=null must be a whole number",
    "steps=0": "steps=0 must be a whole number",
    "seed=-1": "seed=-1 must be a whole number",
    "rate=-1": "rate=-1 must be a number above 0",
    "rate=fast": "rate=fast must be a number",
    "size=1.5": "size=1.5 must be a whole number",
    "device=tpu": "device=tpu is none of",
    "output_dir=/proc/nowhere": "/proc/nowhere",
}


@pytest.mark.parametrize("override", BAD, ids=[key[:24] for key in BAD])
def test_bad_input_is_one_line_and_exit_code_2(call, photo, tmp_path, override):
    code, _, complaints = edit(call, photo, tmp_path, override)
    assert code == 2
    assert len(complaints) == 1 and complaints[0].startswith("error: ") and BAD[override] in complaints[0]
    assert not (tmp_path / "out").exists()


def test_broken_numbers_exit_with_4_and_keep_what_was_there(call, photo, tmp_path):
    code, _, complaints = edit(call, photo, tmp_path, "guidance=dds", "guidance.s=1e39")
    assert code == 4
    assert complaints == [
        "error: the dds gradient is not finite at step 0 (t = 981); results are those so far"
    ]
    assert (tmp_path / "out" / "after.png").is_file()


@pytest.mark.parametrize("guidance", ["nfsd", "sds", "vsd"])
def test_an_image_from_noise(call, tmp_path, guidance):
    code, out, complaints = call(
        generate,
        "prompt.target=a clown",
        f"guidance={guidance}",
        *TINY,
        "steps=2",
        "size=72",
        "decomposition=[50,500]",
        f"output_dir={tmp_path / 'out'}",
    )
    assert code == 0
    assert all(
        "unrealistic" in line for line in complaints
    )  # the miniature reads 16 letters of NFSD's negative
    assert len(out.strip().splitlines()) == 5
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"image.png", "progress.png", "decomposition.png", "report.html", "run.json"}
    page = Page((tmp_path / "out" / "report.html").read_text())
    assert "decomposition.png" in page.addresses and "What the noise predictions consist of" in page.words
    assert Image.open(tmp_path / "out" / "image.png").size == (72, 72)


@pytest.mark.parametrize(
    "override, message",
    [
        ("guidance=ssd", "guidance=ssd edits what is there; to generate, use nfsd, sds or vsd"),
        ("guidance=cds", "guidance=cds edits what is there"),
        ("diffusion=tiny_ip2p", "edits an image, and there is none"),
        ("size=70", "size=70 is not divisible by 8; try size=72"),
        ("decomposition=[1000]", "decomposition=[1000] must be timesteps, whole numbers from 0 to 999"),
        ("decomposition=[30.0]", "decomposition=[30.0] must be timesteps"),
        ("s=much", "guidance.s=much must be a number"),
        ("guidance.uniform=perhaps", "guidance.uniform=perhaps must be true or false"),
        ("guidance.threshold=200", "threshold=200 must be a share of the timesteps, from 0 to 1"),
        ("decomposition=300", "decomposition=300 must be a list"),
        ("guidance.threshold=x", "guidance.threshold=x must be a number"),
        ("prompt.target=", "prompt.target is empty"),
    ],
)
def test_what_cannot_be_generated(call, tmp_path, override, message):
    code, _, complaints = call(
        generate, "prompt.target=a clown", *TINY, "steps=1", f"output_dir={tmp_path / 'out'}", override
    )
    errors = [line for line in complaints if line.startswith("error")]
    assert code == 2
    assert len(errors) == 1 and message in errors[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("script", ["edit_image", "generate_image"])
def test_the_files_run_from_anywhere(script, tmp_path):
    result = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / f"{script}.py"), "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert result.returncode == 0, result.stderr
    assert f"python scripts/{script}.py" in result.stdout and "guidance: cds, csd" in result.stdout
