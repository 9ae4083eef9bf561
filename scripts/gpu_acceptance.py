"""Ten minutes that prove the CUDA path on one card: correctness beside the CPU, then speed and memory by phase.

    python scripts/gpu_acceptance.py                         on a machine with a GPU; writes docs/gpu_acceptance.md
    python scripts/gpu_acceptance.py --device cpu --tiny     the same script without one, on miniatures

Needs no weights: correctness comes from the embedded prior, speed from full-size networks with random weights.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch.utils.flop_counter import FlopCounterMode

from gs_ssd import Scene
from gs_ssd.diffusion.diffusers_prior import DiffusersPrior
from gs_ssd.diffusion.load import load_prior
from gs_ssd.diffusion.timesteps import Linear
from gs_ssd.edit.loop import StepReport, distil
from gs_ssd.edit.splats import SplatCanvas
from gs_ssd.edit.trainable import TrainableScene
from gs_ssd.guidance import SSD, Step, encode_prompts
from gs_ssd.guidance.base import predict_branches
from gs_ssd.render import render
from gs_ssd.scene import OrbitViews, find_frame

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


def milliseconds(step: Callable[[], None], device: torch.device, count: int) -> float:
    step()
    sync(device)
    start = time.perf_counter()
    for _ in range(count):
        step()
    sync(device)
    return 1000 * (time.perf_counter() - start) / count


def speed(name: str, prior: DiffusersPrior, side: int, count: int) -> Iterator[Row]:
    """Time by phase and peak memory of an edit, the work in it, and the published structure in the same run."""
    device, label = prior.device, f"{name}, {side} px"
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    reports, _ = steps(prior, side, count + 1, device)
    mean = {phase: 1000 * sum(r.seconds[phase] for r in reports[1:]) / count for phase in PHASES}
    peak = f", peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if device.type == "cuda" else ""
    by_phase = ", ".join(f"{phase} {mean[phase]:.1f}" for phase in PHASES)
    yield label, f"{sum(mean.values()):.1f} ms per step ({by_phase}){peak}", ""
    with FlopCounterMode(display=False) as counter:
        ours(prior, side)()
    yield f"{label}: work", f"{counter.get_total_flops() / 1e12:.3g} TFLOP per step", ""
    a, b = milliseconds(official(prior, side), device, count), milliseconds(ours(prior, side), device, count)
    yield (
        f"{label}: published structure against ours",
        f"{a:.1f} against {b:.1f} ms: {a / b:.2f} x",
        ">= 2.5 x (SD 2.1)",
    )


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


def measure(device: torch.device, tiny: bool, count: int) -> Iterator[Row]:
    yield from environment(device)
    yield from kernels(device)
    yield from loop(device)
    sizes = {"sd21": (512,), "sdxl": (1024,), "sd35": (512, 1024)}
    for name, sides in sizes.items():
        if tiny:
            alias = {"sd21": "tiny", "sdxl": "tiny_sdxl", "sd35": "tiny_sd3"}[name]
            prior, sides = load_prior(alias, device=device, freeu=name == "sd21"), (64,)
        else:
            from gs_ssd.diffusion.full_size import full_size_prior

            dtype = torch.bfloat16 if name == "sd35" else torch.float16
            prior = full_size_prior(name, device=device, dtype=dtype)
        for side in sides:
            yield from speed(name, prior, side, count)
        if name == "sd21":
            yield from half_autoencoder(prior, sides[0], count)
            yield from synchronisations(prior, sides[0])
        del prior
        if device.type == "cuda":
            torch.cuda.empty_cache()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cuda | cpu")
    parser.add_argument("--tiny", action="store_true", help="miniatures in place of full-size networks")
    parser.add_argument("--steps", type=int, default=30, help="timed steps per model")
    parser.add_argument(
        "--out", type=Path, help="the table's file; default: docs/gpu_acceptance.md, none with --tiny"
    )
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        print("error: no CUDA device; --device cpu --tiny runs the same script without one", file=sys.stderr)
        return 2
    lines = ["| what | measured | expected |", "|---|---|---|"]
    print("\n".join(lines))
    for row in measure(torch.device(args.device), args.tiny, args.steps):
        lines.append("| " + " | ".join(row) + " |")
        print(lines[-1], flush=True)
    out = args.out or (
        None if args.tiny else Path(__file__).resolve().parents[1] / "docs" / "gpu_acceptance.md"
    )
    if out is not None:
        out.write_text("# Acceptance on a GPU\n\n" + "\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
