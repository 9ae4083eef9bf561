"""`gs-ssd doctor`: what this machine can run, what is missing, the command that mends it, and what an edit costs.

gs-ssd doctor
gs-ssd doctor scene=my.ply prompt=gold preset=quick     the same settings as `gs-ssd edit` takes
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gs_ssd import __version__
from gs_ssd.assets import PRIOR
from gs_ssd.cli.app import answer, prepare_process
from gs_ssd.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from gs_ssd.session.costs import Cost, Job

EXTRAS = {
    "studio": ("viser", "edits in the browser"),
    "onnx": ("onnxruntime", "runs the embedded prior 1.5 to 2 times as fast"),
    "sog": ("gaussforge", "writes .sog"),
    "joblib": ("joblib", "runs sweeps on one machine"),
    "ray": ("ray", "runs tables and sweeps on Ray"),
    "slurm": ("submitit", "runs tables and sweeps on Slurm"),
    "lpips": ("torchvision", "measures LPIPS"),
}
LEAST_MEMORY_GB = 2.0  # of a short edit of a sample scene, with room for the rest of the machine
CARDS = (8, 12, 16, 24, 48, 80)  # GB, of which a forecast without a card speaks
WAIT = 3.0  # seconds for an answer from the hub
HELP = """gs-ssd doctor: what this machine can run, and the command that mends what is missing.
gs-ssd doctor scene=... prompt=... <settings>: how long that edit will take, and its peak memory.

The settings are those of gs-ssd edit. The exit code is 1 where no edit can run."""


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        state: "ok", "missing" (something optional is), or "broken" (nothing runs without it).
        what: in words.
        remedy: the command that mends it, "" where there is nothing to mend.
    """

    state: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.state:<8} {self.what}" + (f"\n         → {self.remedy}" if self.remedy else "")


def main(argv: Sequence[str]) -> int:
    """Report on the machine, or with settings on one edit; returns the exit code."""
    if any(argument in ("-h", "--help") for argument in argv):
        print(HELP)
        return 0
    prepare_process()
    return answer(lambda: forecast(list(argv)) if argv else examine())


def examine() -> int:
    """Print every finding; 1 where no edit can run."""
    print(f"gs-ssd {__version__}, Python {platform.python_version()}, {platform.platform()}")
    broken = False
    for finding in findings():
        print(finding, flush=True)
        broken |= finding.state == "broken"
    return int(broken)


def findings() -> Iterator[Finding]:
    """The machine's findings, the quick ones first."""
    yield assets()
    yield memory()
    yield ffmpeg()
    yield from extras()
    yield from packages()
    if find_spec("torch") is None:
        return
    yield from device()
    yield from models()


def assets() -> Finding:
    from gs_ssd.assets import check_assets

    try:
        check_assets()
    except UserError as error:
        return Finding(
            "broken", str(error).partition(";")[0], "pip install --force-reinstall --no-deps gs_ssd"
        )
    return Finding("ok", "settings, sample scenes and the embedded prior came with the package")


def memory() -> Finding:
    """The machine's memory, all of it and what is free."""
    total, free = memory_gb()
    if total is None:
        return Finding("missing", "can't tell how much memory there is", "pip install psutil")
    said = f"{total:.1f} GB of memory" + ("" if free is None else f", {free:.1f} GB of it free")
    if (total if free is None else free) < LEAST_MEMORY_GB:
        return Finding("missing", f"{said}: little", "close other programs, or use a smaller scene")
    return Finding("ok", said)


def memory_gb() -> tuple[float | None, float | None]:
    """(total, free) memory in GB; None for what can't be told."""
    try:
        if sys.platform == "linux":
            rows = dict(
                line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
            )
            found = [int(rows[name].split()[0]) / 1e6 for name in ("MemTotal", "MemAvailable")]
            return found[0], found[1]
        if sys.platform == "win32":
            import psutil

            state = psutil.virtual_memory()
            return state.total / 1e9, state.available / 1e9
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, None
    except (OSError, KeyError, ValueError, ImportError):
        return None, None


def ffmpeg() -> Finding:
    """Whether videos can be written, by running it."""
    own = os.environ.get("IMAGEIO_FFMPEG_EXE")
    mend = "unset" if own else "pip install --force-reinstall imageio-ffmpeg, or set"
    mend += f" IMAGEIO_FFMPEG_EXE{', or set it' if own else ''} to an ffmpeg with libx264"
    try:
        import imageio_ffmpeg

        path = imageio_ffmpeg.get_ffmpeg_exe()
        said = subprocess.run(
            [path, "-hide_banner", "-encoders"], capture_output=True, encoding="utf-8", timeout=60
        )
    except (ImportError, RuntimeError, OSError, subprocess.SubprocessError) as error:
        return Finding("broken", f"no ffmpeg for the videos: {' '.join(str(error).split())[:100]}", mend)
    if said.returncode or "libx264" not in said.stdout:
        return Finding("broken", f"{path} has no libx264, which the videos need", mend)
    return Finding("ok", f"ffmpeg with libx264: {path}")


def extras() -> Iterator[Finding]:
    """Optional parts of the package."""
    for extra, (module, use) in EXTRAS.items():
        there = find_spec(module) is not None
        yield (
            Finding("ok", f"{module}, which {use}")
            if there
            else Finding(
                "missing", f"{module}, which {use}, is not installed", f'pip install "gs_ssd[{extra}]"'
            )
        )


def packages() -> Iterator[Finding]:
    """What every edit imports, without importing it."""
    needed = ("torch", "diffusers", "transformers", "numba", "numpy", "hydra-core")
    found, lost = [], []
    for name in needed:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            lost.append(name)
    if found:
        yield Finding("ok", ", ".join(found))
    if lost:
        yield Finding("broken", f"{', '.join(lost)} not installed", f"pip install {' '.join(lost)}")


def device() -> Iterator[Finding]:
    """The GPU if there is one, the CPU, and the kernels of either."""
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        yield Finding("ok", f"CUDA GPU: {properties.name}, {properties.total_memory / 1e9:.0f} GB")
        yield kernels("cuda")
    elif shutil.which("nvidia-smi"):
        yield Finding(
            "missing",
            f"there is an NVIDIA GPU, but torch {torch.__version__} can't use it",
            "conda env create -f environment.yml, or install torch for your CUDA (https://pytorch.org)",
        )
    else:
        yield Finding("ok", "no CUDA GPU: edits run on the CPU, with the embedded prior by default")
    yield Finding("ok", f"CPU: {os.cpu_count()} logical cores, {torch.get_num_threads()} threads")
    yield kernels("cpu")
    if torch.cuda.is_available():
        yield cards_models(properties.total_memory / 1e9)


def cards_models(card: float) -> Finding:
    """Which models a card of so many GB holds at their own size, and with which settings."""
    from gs_ssd.session.footprints import FOOTPRINTS, fitting

    needs = {name: fitting(model, card, side=model.side) for name, model in FOOTPRINTS.items()}
    at_once = [name for name, settings in needs.items() if settings == []]
    said = [f"models that this card holds: {', '.join(at_once) or 'none'}"]
    said += [f"{name} with {' '.join(settings)}" for name, settings in needs.items() if settings]
    return Finding("ok", "; ".join(said) + " (counted, not measured)")


def kernels(device: str) -> Finding:
    """Whether rendering can start at once."""
    from gs_ssd.render import kernels_are_compiled, kernels_are_kept

    compile_them = f"python -c \"from gs_ssd.render import compile_kernels; compile_kernels('{device}')\""
    if kernels_are_compiled(device):
        return Finding("ok", f"{device.upper()} kernels are compiled")
    if device == "cpu" and not kernels_are_kept():
        return Finding(
            "missing",
            "CPU kernels: no folder for them is writable, so every edit compiles them, about a minute",
            "export NUMBA_CACHE_DIR=<a folder that is>",
        )
    if device == "cpu":
        return Finding("missing", "CPU kernels: the first edit compiles them, about a minute", compile_them)
    from torch.utils.cpp_extension import CUDA_HOME

    if CUDA_HOME is None and shutil.which("nvcc") is None:
        return Finding(
            "broken",
            "gsplat's CUDA kernels are not compiled, and there is no nvcc to compile them",
            "conda env create -f environment.yml, or install CUDA's toolkit and set CUDA_HOME; device=cpu does without",
        )
    return Finding("missing", "gsplat's kernels: the first edit compiles them, minutes", compile_them)


def models() -> Iterator[Finding]:
    """Which models are on this machine, and whether the others can be had."""
    from huggingface_hub import constants, try_to_load_from_cache

    from gs_ssd.diffusion.load import ALIASES

    there = ["embedded"] if (PRIOR / "unet").is_dir() else []
    away: list[str] = []
    for name, alias in ALIASES.items():
        if alias.path is None or alias.path == str(PRIOR):
            continue
        cached = try_to_load_from_cache(alias.path, "model_index.json", revision=alias.revision)
        (there if isinstance(cached, str) else away).append(name)
    yield Finding("ok" if there else "broken", f"models on this machine: {', '.join(there) or 'none'}")
    if not away:
        return
    if constants.HF_HUB_OFFLINE:
        yield Finding("missing", f"HF_HUB_OFFLINE keeps away: {', '.join(away)}", "unset HF_HUB_OFFLINE")
    elif not reachable(constants.ENDPOINT):
        yield Finding(
            "missing",
            f"{constants.ENDPOINT} doesn't answer, so these can't be had: {', '.join(away)}",
            "connect, or on a machine with a connection `hf download <model>`, and give its folder: diffusion=<folder>",
        )
    elif not writable(cache := existing(Path(constants.HF_HUB_CACHE))):
        yield Finding(
            "missing",
            f"{cache} can't be written, so these can't be downloaded: {', '.join(away)}",
            "export HF_HOME=<a folder that can>",
        )
    else:
        free = shutil.disk_usage(cache).free / 1e9
        yield Finding(
            "ok",
            f"can be downloaded, {free:.0f} GB free: {', '.join(away)} (`hf download` ahead, or when first used)",
        )


def existing(path: Path) -> Path:
    """The nearest folder above that is there."""
    return path if path.exists() else existing(path.parent)


def writable(folder: Path) -> bool:
    """Whether a file can be made in a folder; to ask for permissions isn't enough on every disk and system."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def reachable(url: str) -> bool:
    """Whether a server answers at all."""
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    try:
        with urlopen(Request(url, method="HEAD"), timeout=WAIT):
            return True
    except HTTPError:
        return True
    except (URLError, OSError, ValueError):
        return False


def forecast(arguments: list[str]) -> int:
    """Predict the cost of the edit that the settings describe."""
    from gs_ssd.session.config import compose, pick_device
    from gs_ssd.session.costs import predict

    cfg = compose(arguments, "train")
    cuda = pick_device(cfg.device).type == "cuda"
    job = job_of(cfg)
    import torch

    from gs_ssd.render import kernels_are_compiled

    compiled = kernels_are_compiled("cuda" if cuda else "cpu")
    cost = predict(job, cuda=cuda, threads=torch.get_num_threads(), compiled=compiled)
    where = "CUDA" if cuda else f"{torch.get_num_threads()} CPU threads"
    card = torch.cuda.get_device_properties(0).total_memory / 1e9 if cuda else None
    print(
        f"{cfg.scene.name}: {job.gaussians:,} Gaussians, {job.steps} steps, "
        f"{job.views} × {job.side}×{job.side} pixels, {job.method} on {cfg.diffusion.name}, {where}"
    )
    for line in on_a_card(job, cfg.diffusion, card):
        print(line)
    if cost is None:
        print(
            f"nothing is known of the time of {cfg.diffusion.name} on {'CUDA' if cuda else 'a CPU'}; "
            "try steps=20 and look at seconds in its run.json"
        )
        return 0
    print(told(cost))
    free = memory_gb()[1]
    if free is not None and cost.memory_mb / 1e3 > free:
        print(
            f"warning: only {free:.1f} GB of memory are free; use a smaller scene or resolution=",
            file=sys.stderr,
        )
    return 0


def on_a_card(job: Job, diffusion: DictConfig, card: float | None) -> Iterator[str]:
    """What a large model takes of a GPU, and the settings with which it fits this card, or common ones."""
    from gs_ssd.session.footprints import fitting, footprint, gpu_peak, levers_of

    model = footprint(str(diffusion.name)) or footprint(job.family)
    if model is None:
        return
    size: dict[str, Any] = {"side": job.side, "views": job.views}
    off = {"offload": "text", "vae": None, "vae_dtype": "float32"}
    chosen = {f"diffusion.{name}={diffusion[name]}" for name, no in off.items() if diffusion[name] != no}
    peak = gpu_peak(model, **size, settings=chosen)
    yield f"about {peak:.1f} GB of a GPU at the peak, in half precision (counted, not measured)"
    for gb in CARDS if card is None else [] if card >= peak else [card]:
        settings = fitting(model, gb, **size)
        if settings is None:
            least = gpu_peak(model, **size, settings=levers_of(model, views=job.views))
            remedy = f"too small, {least:.1f} GB at the least: a smaller resolution= or model"
        else:
            remedy = " ".join(settings) or "as it is"
        yield f"  a card of {gb:.0f} GB: {remedy}"


def told(cost: Cost) -> str:
    """A prediction in words."""
    parts = ", ".join(f"{name} {seconds:.0f}" for name, seconds in cost.seconds.items() if seconds)
    gpu = f", {cost.gpu_mb / 1e3:.1f} GB of the GPU's" if cost.gpu_mb else ""
    doubt = (
        "within a factor of 1.5 on an idle machine"
        if cost.measured
        else "estimated from counts of operations, not measured on a GPU"
    )
    return f"about {cost.total:.0f} s ({parts}), {cost.memory_mb / 1e3:.1f} GB of memory{gpu}; {doubt}"


def job_of(cfg: DictConfig) -> Job:
    """What the settings ask for, as far as it costs anything; raises UserError for what they can't be."""
    from omegaconf import OmegaConf

    from gs_ssd.checks import whole
    from gs_ssd.session.config import family
    from gs_ssd.session.costs import CPU_PRIORS, CUDA_PRIORS, Job
    from gs_ssd.session.footprints import footprint

    for name in (
        "steps",
        "views_per_step",
        "render.frames",
        "render.size",
        *["resolution"] * bool(cfg.resolution),
    ):
        whole(name, OmegaConf.select(cfg, name), least=1)
    kind = family("folder" if cfg.diffusion.path else cfg.diffusion.name, cfg.diffusion.path)
    known = (
        CPU_PRIORS.get(kind) or CUDA_PRIORS.get(kind) or footprint(str(cfg.diffusion.name)) or footprint(kind)
    )
    path = Path(cfg.scene.path).expanduser() if cfg.scene.path else None
    return Job(
        gaussians=count_gaussians(path) if path else cfg.scene.start.count,
        degree=harmonic_degree(path) if path else 0,
        family=kind,
        method=str(cfg.guidance._target_).rpartition(".")[2],
        predictions=predictions_of(cfg),
        steps=cfg.steps,
        views=cfg.views_per_step,
        side=cfg.resolution or (known.side if known else 512),
        frames=cfg.render.frames,
        frame_side=cfg.render.size,
        asked=0 if cfg.hull is None else cfg.hull.views,
    )


def predictions_of(cfg: DictConfig) -> int:
    """How many noise predictions a step needs, with the coefficients as they are set: fewer where some are zero."""
    from gs_ssd.diffusion.schedule import NoiseSchedule
    from gs_ssd.guidance import Guidance
    from gs_ssd.session.config import build

    guidance = build(cfg, "guidance")
    schedule = NoiseSchedule.scaled_linear()
    return guidance.evaluations(len(schedule) // 2, schedule) if isinstance(guidance, Guidance) else 0


def harmonic_degree(path: Path) -> int:
    """The degree of a scene file's harmonics: of a .splat or .ply; 3, the most there is, for other formats."""
    if path.suffix == ".splat":
        return 0
    with path.open("rb") as file:
        head = file.read(1 << 16)
    if not head.startswith(b"ply") or b"packed_position" in head:
        return 3
    return {0: 0, 9: 1, 24: 2}.get(head.count(b" f_rest_"), 3)


def count_gaussians(path: Path) -> int:
    """How many Gaussians a scene file holds: from its header or size where those say it, else by reading it."""
    from gs_ssd.scene.source import check_file

    check_file(path)
    if path.suffix == ".splat":
        return path.stat().st_size // 32
    with path.open("rb") as file:
        head = file.read(1 << 16)
    for line in head.splitlines() if head.startswith(b"ply") else ():
        words = line.split()
        if words[:2] == [b"element", b"vertex"] and len(words) == 3 and words[2].isdigit():
            return int(words[2])
    from gs_ssd.scene import load_gaussians

    return len(load_gaussians(path))
