"""About ten minutes that prove the CUDA path on one card: correctness beside the CPU, then speed and memory by phase.

    python scripts/gpu_acceptance.py                         on a machine with a GPU; writes docs/gpu_acceptance.md
    python scripts/gpu_acceptance.py --wheels wheels         the same where there is a torch, but no network
    python scripts/gpu_acceptance.py --device cpu --tiny     the same script without a GPU, on miniatures

Needs no weights: correctness comes from the embedded prior, speed from full-size networks with random weights. What it
needs beside torch is carried as wheels, gathered in an environment that has the project, of the same Python and system:

    pip freeze --exclude-editable | grep -Ev '^(gs.ssd|torch(vision)?|triton|(nvidia|cuda).*)==' > wanted.txt
    pip wheel --no-deps -w wheels -r wanted.txt

A part that fails, or for which no time is left, is a row that says so; the others go on. It has not run on a card, so
that ten minutes are enough is an estimate: 1 to 4 for the kernels, 1 to 2 for the tests, 4 for the models by their
counted work. No part is begun after `--minutes`, and the largest model comes last.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NoReturn

BEGUN = time.perf_counter()
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def refuse(reason: str) -> NoReturn:
    print(f"error: {reason}", file=sys.stderr)
    sys.exit(2)


def install(arguments: list[str]) -> None:
    """Install the wheels of --wheels; ends the script with one line where that can't be done."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--wheels", type=Path)
    folder = parser.parse_known_args(arguments)[0].wheels
    if folder is None:
        return
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        refuse(f"--wheels {folder} holds no *.whl; gather some as --help says")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", *map(str, wheels)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = ([line for line in done.stderr.splitlines() if "ERROR" in line] or ["pip failed"])[0]
        refuse(f"--wheels {folder}: {reason}; gather them with this Python and system")


install(sys.argv[1:])  # before anything of them is imported

import torch
from torch.utils.flop_counter import FlopCounterMode

from gs_ssd import Scene
from gs_ssd.diffusion.captured import CapturedNetwork
from gs_ssd.diffusion.diffusers_prior import DiffusersPrior
from gs_ssd.diffusion.half_autoencoder import lower_activations
from gs_ssd.diffusion.load import load_prior
from gs_ssd.diffusion.timesteps import Linear
from gs_ssd.edit.loop import StepReport, distil
from gs_ssd.edit.splats import SplatCanvas
from gs_ssd.edit.trainable import TrainableScene
from gs_ssd.guidance import SSD, Step, encode_prompts
from gs_ssd.guidance.base import predict_branches
from gs_ssd.render import render
from gs_ssd.scene import OrbitViews, find_frame
from gs_ssd.session.footprints import footprint, gpu_peak

PHASES = ("render", "encode", "prior", "backward", "own")
Row = tuple[str, str, str]  # what, measured, expected


def sync(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def steps(
    prior: DiffusersPrior, side: int, count: int, device: torch.device
) -> tuple[list[StepReport], TrainableScene]:
    """An edit of the sample face, seeded."""
    gaussians = Scene.sample("face").gaussians.to(device)
    scene = TrainableScene(gaussians)
    canvas = SplatCanvas(
        scene,
        source=gaussians.clone(),
        views=OrbitViews(find_frame(gaussians), side, side),
        renderer=render,
        prior=prior,
        texts=encode_prompts(prior, target="a photo of a clown", source="a photo of a man"),
    )
    generator = torch.Generator().manual_seed(0)
    run = distil(
        canvas, prior=prior, guidance=SSD(), timesteps=Linear(), num_steps=count, generator=generator
    )
    return list(run), scene


def environment(device: torch.device) -> Iterator[Row]:
    import diffusers
    import transformers

    versions = f"torch {torch.__version__}, diffusers {diffusers.__version__}, transformers {transformers.__version__}"
    yield "versions", versions, ""
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        yield "card", f"{card.name}, {card.total_memory / 2**30:.0f} GiB, sm_{card.major}{card.minor}", ""
        flags = (
            f"convolutions {torch.backends.cudnn.allow_tf32}, matmuls {torch.backends.cuda.matmul.allow_tf32}"
        )
        yield "TF32", flags, "stated when a prior is loaded: both true"


def kernels(device: torch.device) -> Iterator[Row]:
    """gsplat compiles, and the suite's own comparison of the two rasterizers passes."""
    if device.type != "cuda":
        yield "gsplat's kernels, pytest -m gpu", "left out", "needs a GPU"
        return
    from gs_ssd.render.cuda import compile_kernels

    start = time.perf_counter()
    compile_kernels()
    yield "gsplat's kernels", f"loaded in {time.perf_counter() - start:.0f} s", "1-4 min the first time"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    yield "pytest -m gpu", (done.stdout.strip().splitlines() or ["no output"])[-1], "all pass"


def rasterizers(device: torch.device) -> Iterator[Row]:
    """The sample face from one camera on the CPU and on the device: the picture, and gradients of a random sum."""
    gaussians = Scene.sample("face").gaussians
    cameras, _ = OrbitViews(find_frame(gaussians), 256, 256).sample(1, torch.Generator().manual_seed(0))
    weight = torch.randn(1, 256, 256, 3, generator=torch.Generator().manual_seed(1))
    pictures, gradients = [], []
    for place in (torch.device("cpu"), device):
        scene = TrainableScene(gaussians.to(place))
        rgb = render(scene.gaussians, cameras.to(place)).rgb
        (rgb * weight.to(place)).sum().backward()
        pictures.append(rgb.detach().cpu())
        gradients.append({name: x.grad.cpu() for name, x in scene.params.items() if x.grad is not None})
    yield (
        "rasterizer, CPU against device",
        f"at most {float((pictures[0] - pictures[1]).abs().max()):.1e} apart",
        "1e-3",
    )
    worst = max(
        float((gradients[1][name] - g).norm() / (g.norm() + 1e-20)) for name, g in gradients[0].items()
    )
    yield "its gradients", f"at most {worst:.1e} apart, relative", "5e-3"


def loop(device: torch.device) -> Iterator[Row]:
    """20 steps of the embedded prior on the CPU and on the device, from one seed."""
    found = {}
    for place in dict.fromkeys((torch.device("cpu"), device)):
        prior = load_prior("embedded", device=place, dtype="float32")
        reports, scene = steps(prior, 128, 20, place)
        found[place.type] = ([r.t for r in reports], [r.loss for r in reports], scene.gaussians.rgb.cpu())
    (t, loss, rgb), (t_2, loss_2, rgb_2) = found["cpu"], found[device.type]
    yield "timesteps of the embedded loop", "equal" if t == t_2 else "different", "equal"
    apart = max(abs(a - b) / a for a, b in zip(loss, loss_2))
    yield "losses of 20 steps, CPU against device", f"at most {100 * apart:.2f} % apart", "within 2 %"
    yield (
        "colours after 20 steps",
        f"at most {float((rgb - rgb_2).abs().max().detach()):.1e} apart",
        "within 0.02",
    )


def official(prior: DiffusersPrior, side: int) -> Callable[[], None]:
    """The published step's structure: four branches apart, and three encodes of pictures, one with its gradient."""
    device = prior.device
    rgb = torch.rand(1, side, side, 3, device=device)
    text = encode_prompts(prior, target="a clown", source="a man")

    def step() -> None:
        x = rgb.clone().requires_grad_()
        z = prior.encode(x)
        with torch.no_grad():
            z_src = prior.encode(rgb)
            prior.encode(rgb)  # an image condition that it never uses
        noise = torch.randn_like(z)
        now = Step(z.detach(), z_src, noise, 499, prior.schedule, text)
        grads = [
            a * predict_branches(prior, [branch], now, freeu=True)[branch]
            for branch, a in SSD().coefficients(499, prior.schedule).items()
        ]
        (z * sum(grads)).sum().backward()

    return step


def ours(prior: DiffusersPrior, side: int) -> Callable[[], None]:
    """The same score as this project computes it: one batch, the source's latents kept."""
    rgb = torch.rand(1, side, side, 3, device=prior.device)
    text = encode_prompts(prior, target="a clown", source="a man")
    with torch.no_grad():
        z_src = prior.encode(rgb)

    def step() -> None:
        x = rgb.clone().requires_grad_()
        z = prior.encode(x)
        now = Step(z.detach(), z_src, torch.randn_like(z), 499, prior.schedule, text)
        (z * SSD()(prior, now)).sum().backward()

    return step


def milliseconds(step: Callable[[], object], device: torch.device, count: int) -> float:
    step()
    sync(device)
    start = time.perf_counter()
    for _ in range(count):
        step()
    sync(device)
    return 1000 * (time.perf_counter() - start) / count


def rate(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """FLOP per second of a product of two square matrices: what the card reaches, not what is printed on it."""
    a = torch.randn(side, side, device=device, dtype=dtype)
    return 2 * side**3 / (milliseconds(lambda: a @ a, device, 10) / 1000)


def work(prior: DiffusersPrior, side: int) -> tuple[float, float]:
    """FLOP of the network and of the autoencoder in one step."""
    with FlopCounterMode(display=False) as counter:
        ours(prior, side)()
    rgb = torch.rand(1, side, side, 3, device=prior.device, requires_grad=True)
    with FlopCounterMode(display=False) as encoder:
        prior.encode(rgb).sum().backward()
    with (
        FlopCounterMode(display=False) as source,
        torch.no_grad(),
    ):  # which `ours` encodes once, not in a step
        prior.encode(rgb)
    picture = encoder.get_total_flops()
    return counter.get_total_flops() - picture - source.get_total_flops(), picture


def speed(name: str, prior: DiffusersPrior, side: int, count: int, matrix: int) -> Iterator[Row]:
    """Time by phase and peak memory of an edit, the least time for its work, and the published structure beside it."""
    device, label = prior.device, f"{name}, {side} px"
    predicted = ""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        predicted = f"{gpu_peak(footprint(name), side=side, again=True):.1f} GB predicted"
    reports, _ = steps(prior, side, count + 1, device)
    mean = {phase: 1000 * sum(r.seconds[phase] for r in reports[1:]) / count for phase in PHASES}
    peak = f", peak {torch.cuda.max_memory_allocated() / 1e9:.1f} GB" if device.type == "cuda" else ""
    by_phase = ", ".join(f"{phase} {mean[phase]:.1f}" for phase in PHASES)
    yield label, f"{sum(mean.values()):.1f} ms per step ({by_phase}){peak}", predicted
    network, picture = work(prior, side)
    floor = network / rate(device, prior.network.dtype, matrix) + picture / rate(
        device, torch.float32, matrix
    )
    counted = f"network {network / 1e12:.3g} + autoencoder {picture / 1e12:.3g} TFLOP"
    ratio = (mean["prior"] + mean["encode"] + mean["backward"]) / (1000 * floor)
    yield (
        f"{label}: least time for its work",
        f"{counted}: {1000 * floor:.1f} ms at this device's rate; prior, encode, backward take {ratio:.1f} x",
        "",
    )
    a, b = milliseconds(official(prior, side), device, count), milliseconds(ours(prior, side), device, count)
    yield (
        f"{label}: published structure against ours",
        f"{a:.1f} against {b:.1f} ms: {a / b:.2f} x",
        ">= 2.5 x (SD 2.1)",
    )


def shortcuts(prior: DiffusersPrior, side: int, count: int) -> Iterator[Row]:
    """The step with the network asked as usual, through a CUDA graph, with the channels last, and compiled."""
    device = prior.device
    step = ours(prior, side)
    plain = milliseconds(step, device, count)
    yield "eager", f"{plain:.1f} ms", ""
    prior.shortcut = CapturedNetwork(prior)
    captured = milliseconds(step, device, count)
    held = any(call is not None and call.graph is not None for call in prior.shortcut.calls.values())
    yield (
        "CUDA graph",
        f"{captured:.1f} ms: {plain / captured:.2f} x, {'captured' if held else 'not captured'}",
        "",
    )
    prior.shortcut = None
    for part in prior.running:
        torch.nn.Module.to(part, memory_format=torch.channels_last)
    last = milliseconds(step, device, count)
    yield "channels last", f"{last:.1f} ms: {plain / last:.2f} x", ""
    start = time.perf_counter()
    # Without a GPU only the capture of the graph is tried: to generate code for a CPU takes minutes.
    prior.network.compile(backend="inductor" if device.type == "cuda" else "eager")
    step()
    sync(device)
    cold = time.perf_counter() - start
    compiled = milliseconds(step, device, count)
    yield "compiled, channels last", f"{compiled:.1f} ms: {plain / compiled:.2f} x, {cold:.0f} s at first", ""


def half_autoencoder(prior: DiffusersPrior, side: int, count: int) -> Iterator[Row]:
    """The same score with the autoencoder in half precision: time, and the error of the pixel gradient."""
    rgb = torch.rand(1, side, side, 3, device=prior.device)
    z = prior.encode(rgb).detach()
    gradient = torch.randn(z.shape, generator=torch.Generator().manual_seed(0)).to(z)

    def pixels() -> torch.Tensor:
        x = rgb.clone().requires_grad_()
        prior.encode(x).backward(gradient)
        return x.grad

    whole, before = pixels(), milliseconds(ours(prior, side), prior.device, count)
    lower_activations(prior.vae)
    torch.nn.Module.to(prior.vae, torch.float16)
    half, after = pixels(), milliseconds(ours(prior, side), prior.device, count)
    torch.nn.Module.to(prior.vae, torch.float32)
    error = float((half - whole).norm() / whole.norm())
    yield (
        "autoencoder in float16",
        f"{before:.1f} to {after:.1f} ms, gradient {100 * error:.2f} % off",
        "below 2 %",
    )


def synchronisations(prior: DiffusersPrior, side: int) -> Iterator[Row]:
    """Waits of the host for the device in one score, as CUDA counts them."""
    if prior.device.type != "cuda":
        yield "synchronisations per score", "left out", "needs a GPU"
        return
    step = ours(prior, side)
    step()
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        step()
    torch.cuda.set_sync_debug_mode("default")
    yield "synchronisations per score", str(sum("synchroniz" in str(w.message) for w in seen)), "2 at most"


def models(device: torch.device, tiny: bool, count: int) -> Iterator[Callable[[], Iterator[Row]]]:
    """The parts that need a large model, one model at a time."""
    for name in ("sd21", "sdxl", "sd35"):
        if tiny:
            alias = {"sd21": "tiny", "sdxl": "tiny_sdxl", "sd35": "tiny_sd3"}[name]
            prior, sides, matrix = load_prior(alias, device=device, freeu=name == "sd21"), (64, 128), 256
        else:
            from gs_ssd.diffusion.full_size import full_size_prior

            prior, sides, matrix = full_size_prior(name, device=device), (512, 1024), 8192
        for side in sides:
            yield partial(speed, name, prior, side, count, matrix)
        if name == "sd21":
            yield partial(half_autoencoder, prior, sides[0], count)
            yield partial(synchronisations, prior, sides[0])
            yield partial(shortcuts, prior, sides[0], count)
        del prior
        if device.type == "cuda":
            torch.cuda.empty_cache()


def measure(device: torch.device, tiny: bool, count: int, minutes: float) -> Iterator[Row]:
    """Every part's rows; a part that fails is one row, and so is one that comes after its time."""

    def parts() -> Iterator[Callable[[], Iterator[Row]]]:
        for part in (environment, kernels, rasterizers, loop):
            yield partial(part, device)
        yield from models(device, tiny, count)

    for part in parts():
        name = part.func.__name__
        if time.perf_counter() - BEGUN > 60 * minutes:
            yield name, "left out", f"{minutes:g} minutes are over"
            continue
        try:
            yield from part()
        # Whatever it is, the ten minutes with a card are not over.
        except Exception as error:
            yield name, f"FAILED: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}", ""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cuda | cpu")
    parser.add_argument("--tiny", action="store_true", help="miniatures in place of full-size networks")
    parser.add_argument("--steps", type=int, default=30, help="timed steps per model")
    parser.add_argument("--minutes", type=float, default=9, help="after so many, no further part is begun")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels to install first")
    parser.add_argument(
        "--out", type=Path, help="the table's file; default: docs/gpu_acceptance.md, none with --tiny"
    )
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        refuse("no CUDA device; --device cpu --tiny runs the same script without one")
    lines = ["| what | measured | expected |", "|---|---|---|"]
    print("\n".join(lines))
    for row in measure(torch.device(args.device), args.tiny, args.steps, args.minutes):
        lines.append("| " + " | ".join(row) + " |")
        print(lines[-1], flush=True)
    lines.append(f"| all of it | {time.perf_counter() - BEGUN:.0f} s | 10 minutes |")
    print(lines[-1])
    out = args.out or (None if args.tiny else ROOT / "docs" / "gpu_acceptance.md")
    if out is not None:
        out.write_text("# Acceptance on a GPU\n\n" + "\n".join(lines) + "\n")
    return int(any("FAILED" in line for line in lines))


if __name__ == "__main__":
    sys.exit(main())
