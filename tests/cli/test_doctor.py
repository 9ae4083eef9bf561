"""`gs-ssd doctor`: what it finds, what it tells to type, and what it predicts."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from dataclasses import replace

import pytest

from gs_ssd.assets import ROOT
from gs_ssd.cli import doctor
from gs_ssd.cli.main import main
from gs_ssd.scene import save_gaussians
from gs_ssd.session.config import compose
from gs_ssd.session.costs import CPU, CPU_PRIORS, CUDA_PRIORS, METHODS, Job, predict
from gs_ssd.session.shorthands import options
from tests.synthetic import random_gaussians

FACE = Job(
    gaussians=38251,
    family="embedded",
    method="SSD",
    predictions=2,
    steps=200,
    views=1,
    side=128,
    frames=30,
    frame_side=256,
)


def test_views_that_are_asked_about_first_cost_by_their_number():
    none, some, more = (predict(replace(FACE, asked=asked), cuda=False) for asked in (0, 12, 24))
    assert none.seconds["outline"] == 0 < some.seconds["outline"] < more.seconds["outline"] < 5
    assert more.total - none.total == pytest.approx(2 * (some.total - none.total))


# Commands, what they took in seconds of processor time on one thread, and their peak memory in MB: docs/doctor.md.
MEASURED = [
    ("scene=face prompt=clown preset=quick steps=30", 14.2, 1020),
    ("scene=face prompt=gold steps=60", 17.1, 1048),
    ("scene=blob prompt=spiderman guidance=nfsd steps=40", 13.8, 850),
    ("scene=elder prompt=joker guidance=vsd steps=20 render.frames=12", 14.3, 1045),
    ("scene=face prompt=clown resolution=256 steps=12 render.frames=12", 14.8, 1020),
    ("scene=woman prompt=marble views_per_step=4 steps=12 preset=quick", 12.2, 1060),
    ("scene=face prompt=zombie guidance=sds steps=60 render.frames=12", 13.9, 1046),
    ("scene=face prompt=zombie guidance=ssd_cds steps=20 preset=quick", 13.2, 1010),
    ("scene=elder prompt=skull render=high render.frames=20 steps=15", 18.1, 1186),
    ("scene=face prompt=clown preset=quick", 20.3, 996),
]


def test_this_machine_can_run_an_edit(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "reachable", lambda url: False)
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "ffmpeg with libx264" in said and "models on this machine: embedded" in said
    assert "doesn't answer" in said or "HF_HUB_OFFLINE" in said


def test_every_gap_comes_with_what_mends_it(monkeypatch):
    monkeypatch.setattr(doctor, "reachable", lambda url: False)
    assert [f.what for f in doctor.findings() if f.state != "ok" and not f.remedy] == []


def test_without_ffmpeg_no_edit_can_run(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(doctor, "device", lambda: ())
    monkeypatch.setattr(doctor, "models", lambda: ())
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "none"))
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "broken   no ffmpeg for the videos" in said and "→ unset IMAGEIO_FFMPEG_EXE" in said


def test_a_cache_of_models_that_cant_be_written_is_named(monkeypatch, tmp_path):
    from huggingface_hub import constants

    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(doctor, "reachable", lambda url: True)
    for cache, mends in ((tmp_path, ""), (tmp_path / "file" / "hub", "export HF_HOME=<a folder that can>")):
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        *_, hub = doctor.models()
        assert hub.remedy == mends and "sd21" in hub.what


def test_little_memory_is_said(monkeypatch):
    monkeypatch.setattr(doctor, "memory_gb", lambda: (4.0, 0.5))
    assert doctor.memory().state == "missing" and "0.5 GB of it free" in doctor.memory().what


def test_it_knows_every_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert doctor.EXTRAS.keys() == project["optional-dependencies"].keys() - {"test"}


def test_help_imports_no_torch():
    code = "import sys; from gs_ssd.cli.main import main; main(['doctor', '--help']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_prediction_imports_no_torch():
    code = "import sys, gs_ssd.session.costs; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_forecast_names_time_and_memory(capsys):
    settings = ["scene=face", "prompt=clown", "preset=quick", "diffusion=embedded", "device=cpu"]
    assert main(["doctor", *settings]) == 0
    said = capsys.readouterr().out
    assert "face: 38,251 Gaussians, 200 steps, 1 × 128×128 pixels, SSD on embedded" in said
    assert "GB of memory" in said and "about " in said


def test_what_is_unknown_is_said(capsys):
    assert main(["doctor", "scene=face", "prompt=clown", "diffusion=sdxl", "device=cpu"]) == 0
    assert "nothing is known of the time of sdxl on a CPU" in capsys.readouterr().out


def test_a_mistyped_setting_is_answered_as_edit_answers_it(capsys):
    assert main(["doctor", "scene=fase"]) == 2
    assert "no scene is called 'fase' (did you mean face?)" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".ply", ".splat", ".compressed.ply", ".spz"])
def test_gaussians_are_counted_as_they_are_read(tmp_path, suffix):
    save_gaussians(random_gaussians(300, sh_degree=0), tmp_path / f"scene{suffix}")
    assert doctor.count_gaussians(tmp_path / f"scene{suffix}") == 300


@pytest.mark.parametrize("degree", range(4))
def test_harmonics_count_in_memory(tmp_path, degree):
    save_gaussians(random_gaussians(300, sh_degree=degree), tmp_path / "scene.ply")
    assert doctor.harmonic_degree(tmp_path / "scene.ply") == degree
    less, more = (predict(replace(FACE, degree=d), cuda=False) for d in (0, degree))
    assert less and more and (more.memory_mb > less.memory_mb) == (degree > 0)


def test_every_method_has_its_price(tmp_path):
    """By the class that its configuration names."""
    targets = {
        line.rpartition(".")[2].strip()
        for name in options("guidance")
        for line in (ROOT / "configs" / "guidance" / f"{name}.yaml").read_text().splitlines()
        if line.startswith("_target_")
    }
    assert targets == METHODS.keys()


@pytest.mark.parametrize(
    ("settings", "predictions"),
    [
        (["diffusion=embedded"], 2),  # its calibration leaves two of four coefficients
        (["diffusion=embedded", "guidance.w_p=3.75"], 3),
        (["diffusion=embedded", "guidance.w_p=3.75", "guidance.w_e=5.5"], 4),
        (["diffusion=sd21"], 4),
        (["diffusion=embedded", "guidance=nfsd"], 3),
        (["diffusion=embedded", "guidance=gs_editor"], 0),  # edits pictures between its steps
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_predictions_are_counted_as_the_coefficients_are_set(settings, predictions):
    cfg = compose(["scene=face", "prompt=clown", "device=cpu", *settings], "train")
    assert doctor.job_of(cfg).predictions == predictions


@pytest.mark.parametrize("less", [{"predictions": 2}, {"predictions": 3}])
def test_fewer_predictions_cost_less(less):
    four, fewer = (predict(replace(FACE, **change), cuda=False) for change in ({"predictions": 4}, less))
    assert four and fewer and fewer.total < four.total


@pytest.mark.parametrize(
    "larger",
    [
        {"steps": 600},
        {"views": 2},
        {"side": 256},
        {"gaussians": 200_000},
        {"frames": 60},
        {"frame_side": 512},
    ],
    ids=lambda change: next(iter(change)),
)
def test_more_costs_more(larger):
    small, large = predict(FACE, cuda=False), predict(replace(FACE, **larger), cuda=False)
    assert small and large and large.total > small.total


@pytest.mark.parametrize(("command", "seconds", "memory_mb"), MEASURED)
def test_predictions_lie_within_a_factor_of_what_was_measured(command, seconds, memory_mb):
    cost = predict(doctor.job_of(compose([*command.split(), "device=cpu"], "train")), cuda=False)
    assert cost is not None
    assert seconds / 1.5 < cost.total < 1.5 * seconds
    assert memory_mb / 1.5 < cost.memory_mb < 1.5 * memory_mb


def test_threads_help_and_compiling_takes_its_time():
    one, two = (predict(FACE, cuda=False, threads=count) for count in (1, 2))
    first = predict(FACE, cuda=False, compiled=False)
    assert one and two and first
    assert two.total < one.total and first.total == pytest.approx(one.total + CPU.compile)


def test_estimates_are_told_from_measurements():
    assert all(cost and cost.measured for cost in [predict(FACE, cuda=False)])
    gpu = predict(replace(FACE, family="sd", side=512), cuda=True)
    assert gpu and not gpu.measured and "not measured on a GPU" in doctor.told(gpu)
    assert gpu.gpu_mb > 4000
    assert predict(replace(FACE, family="sdxl"), cuda=True) is None
    assert CPU_PRIORS.keys() - {"tiny"} <= CUDA_PRIORS.keys()


@pytest.mark.parametrize("setting", ["steps=x", "views_per_step=0", "resolution=big", "render.frames=null"])
def test_a_wrong_value_is_one_line(setting, capsys):
    assert main(["doctor", "scene=face", "prompt=clown", "device=cpu", setting]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {setting} must be a whole number") and said.count("\n") == 1


def test_a_forecast_says_what_a_large_model_takes_of_which_card(capsys):
    settings = ["doctor", "scene=face", "prompt=clown", "device=cpu"]
    assert main([*settings, "diffusion=sdxl"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "1 × 1024×1024 pixels" in said[0] and said[1].startswith("about 19.0 GB of a GPU at the peak")
    assert "  a card of 24 GB: as it is" in said
    assert "  a card of 16 GB: diffusion.vae_dtype=float16" in said
    assert said[2].startswith("  a card of 8 GB: ")
    assert main([*settings, "diffusion=flux", "resolution=512"]) == 0
    assert "a card of 24 GB: too small, " in capsys.readouterr().out
    assert main([*settings, "diffusion=sdxl", "diffusion.vae=taesd"]) == 0
    assert "about 8.2 GB of a GPU" in capsys.readouterr().out
    assert main([*settings, "diffusion=sdxl", "diffusion.offload=none"]) == 0
    assert "about 20.7 GB of a GPU" in capsys.readouterr().out


def test_a_card_is_told_which_models_it_holds():
    assert "holds: sd15, sd21, ip2p, sdxl, sd35, flux2, pixart;" in doctor.cards_models(24.0).what
    assert "z_image with diffusion.vae_dtype=float16" in doctor.cards_models(24.0).what
    assert "sd21 with diffusion.vae_dtype=float16" in doctor.cards_models(5.2).what
