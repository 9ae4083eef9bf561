"""Train the shipped text-to-image prior from nothing: render captioned heads, then train a latent diffusion model.

    python scripts/workshop/train_prior.py

Notation: x latents [B, K, 16, 16]; z_t = sqrt(a_t) x + sqrt(1 - a_t) eps; y caption. The UNet predicts x:
on a coarse grid of many channels, predicting eps or v spends a small network on copying the noise.

A batch holds single pictures and counterfactual pairs (a, b): one head, view and light with one thing changed. Of some
pairs each member is denoised under its own caption, as usual. The others are edit pairs, which ask what an edit asks:
both captions for one z_t, made from a picture on the way from a to b. The answer is a under a's caption, b under b's,
and the picture itself under none. In a narrow world a perfect model would answer so, but plain denoising never asks.
An interrupted run continues where it stopped.
"""

import argparse
import math
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # see train.py

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gs_ssd.diffusion.patch_autoencoder import PatchAutoencoder
from scripts.workshop.heads import export
from scripts.workshop.heads.dataset import fill_cache
from scripts.workshop.heads.latents import LatentSet, fit_autoencoder, load_latents
from scripts.workshop.heads.vocabulary import LENGTH, build_tokenizer

CHANNELS, WIDTH = 24, 128  # latent channels, width of the text encoder
NULL_SHARE = 0.12
PAIR_SHARE, EDIT_SHARE = 0.875, 0.86  # pairs in a batch, edit pairs among them
UNTOUCHED = 0.45  # of the edit pairs start at the source, where every edit begins
BEYOND = 1.1  # how far past the target the others may lie
HALF_DRESSED = 0.5  # of the edit pairs keep the source's lowest rows: an edit of a head leaves the clothes
PLATEAU = 0.55  # share of the steps at the full learning rate
LOW_T, LOW_SHARE = 300, 0.2  # little text is decided below LOW_T
# Of edit pairs: from t, to t, share. Near ones see the source and learn its details; far ones must hear the caption.
EDIT_TIMES = ((10, 250, 0.25), (250, 600, 0.2), (600, 999, 0.55))
COARSE = (
    3  # latent channels that hold a patch's mean colour and slope, which an edit changes before its details
)
TURN = 2.0  # weight of how the answer to an edit pair turns with the caption: what both get wrong, an edit never sees


def make_unet(channels: int, size: int) -> UNet2DConditionModel:
    """11M parameters; the pooled caption joins the time embedding."""
    widths = (64, 128, 192)
    return UNet2DConditionModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=widths,
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=tuple(w // 32 for w in widths),  # diffusers reads this as the number of heads
        norm_num_groups=16,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def make_text_encoder(tokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def make_scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="sample",
    )


def has_fast_bf16(device: torch.device) -> bool:
    """bf16 is emulated, and slower than fp32, on processors without the instructions."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def draw_timesteps(count: int, generator: torch.Generator) -> Tensor:
    """Stratified t [count], with LOW_SHARE of the draws below LOW_T."""
    u = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
    t = torch.where(
        u < LOW_SHARE, u / LOW_SHARE * LOW_T, LOW_T + (u - LOW_SHARE) / (1 - LOW_SHARE) * (1000 - LOW_T)
    )
    return t.long().clamp(0, 999)


def draw_edit_timesteps(count: int, generator: torch.Generator) -> Tensor:
    """t [count] of edit pairs, as EDIT_TIMES says."""
    low, high, share = torch.tensor(EDIT_TIMES).T
    kind = torch.multinomial(share, count, replacement=True, generator=generator)
    return (low[kind] + torch.rand(count, generator=generator) * (high - low)[kind]).long()


def difference(xa: Tensor, xb: Tensor) -> Tensor:
    """Cells [P, 1, h, w] in which partners differ; a smile differs by less than a costume, and is all that differs."""
    apart = (xa - xb).abs().mean(1, keepdim=True)
    return apart > (apart.amax((1, 2, 3), keepdim=True) / 2).clamp(0.03, 0.12)


def difference_weights(xa: Tensor, xb: Tensor) -> Tensor:
    """Loss weights [P, 1, h, w] that grow where partners differ, more so when they differ in little."""
    mask = difference(xa, xb).float()
    share = mask.mean((1, 2, 3), keepdim=True).clamp_min(1e-3)
    return 1 + mask * (0.25 / share).clamp(0, 15)


def time_weights(alphas: Tensor, cap: float) -> Tensor:
    """1 / (1 - a_t), by which an error of x is as large as the same error seen in v, up to `cap`."""
    return (1 / (1 - alphas)).clamp(max=cap).view(-1, 1, 1, 1)


def on_the_way(xa: Tensor, xb: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures between source and target, as far as an edit may have come, differently far in different places.

    Their details have come less far: an edit's first colours still lie over the source's eyes.
    """
    n, _, h, w = xa.shape
    rand = lambda *shape: torch.rand(shape, generator=generator)  # noqa: E731
    uneven = torch.nn.functional.interpolate(rand(n, 1, 3, 3) - 0.5, (h, w), mode="bilinear")
    way = (BEYOND * rand(n, 1, 1, 1) + 0.6 * uneven).clamp(0, BEYOND)
    row = torch.arange(h).view(1, 1, h, 1) / h
    clothes = (row > 0.6 + 0.3 * rand(n, 1, 1, 1)) & (rand(n, 1, 1, 1) < HALF_DRESSED)
    way = way.masked_fill(clothes | (rand(n, 1, 1, 1) < UNTOUCHED), 0.0)
    coarse = (torch.arange(xa.shape[1]) < COARSE).view(1, -1, 1, 1)
    return xa + torch.where(coarse, way, way * rand(n, 1, 1, 1)) * (xb - xa)


@dataclass
class Batch:
    """What the model sees, z_t [B, K, h, w], t [B] and tokens [B, L], and the x it should answer, with loss weights."""

    z_t: Tensor
    t: Tensor
    tokens: Tensor
    x: Tensor
    weights: Tensor
    pairs: int
    edits: int


def batch_loss(answer: Tensor, batch: Batch) -> Tensor:
    """Weighted squared error of the answers, plus that of the difference between the two answers to an edit pair."""
    error = answer - batch.x
    turn = error[batch.pairs : batch.pairs + batch.edits] - error[: batch.edits]
    total = (error**2 * batch.weights).sum() + TURN * (turn**2 * batch.weights[: batch.edits]).sum()
    return total / error.numel()


def draw_batch(
    data: LatentSet, batch: int, null: Tensor, alphas: Tensor, generator: torch.Generator
) -> Batch:
    """The first 2 P members are the P pairs, sources before targets, and the first E of each are edit pairs."""
    pairs = round(batch * PAIR_SHARE / 2)
    edits = round(pairs * EDIT_SHARE)
    rand = lambda n, high: torch.randint(0, high, (n,), generator=generator)  # noqa: E731
    source = data.pairs[rand(pairs, len(data.pairs))]
    single = data.singles[rand(batch - 2 * pairs, len(data.singles))]
    index = torch.cat([source, source + 1, single])
    x = data.latents[index].float()
    both = lambda v: torch.cat([v[:pairs], v])  # noqa: E731  partners get the same draw
    eps = both(torch.randn((batch - pairs, *x.shape[1:]), generator=generator))
    t = draw_timesteps(batch - pairs, generator)
    t[:edits] = draw_edit_timesteps(edits, generator)
    t, wording = both(t), both(rand(batch - pairs, 2))
    dropped = torch.rand(batch, generator=generator) < NULL_SHARE
    seen = x.clone()
    sources, targets = slice(0, edits), slice(pairs, pairs + edits)
    seen[sources] = seen[targets] = on_the_way(x[sources], x[targets], generator)
    a = alphas[t].view(-1, 1, 1, 1)
    weights = time_weights(alphas[t], cap=5.0).repeat(1, 1, *x.shape[2:])
    weights[sources] = weights[targets] = weights[sources].clamp(max=2.0)
    weights[: 2 * pairs] *= torch.where(
        dropped[: 2 * pairs].view(-1, 1, 1, 1),
        1.0,
        difference_weights(x[:pairs], x[pairs : 2 * pairs]).repeat(2, 1, 1, 1),
    )
    return Batch(
        z_t=a.sqrt() * seen + (1 - a).sqrt() * eps,
        t=t,
        tokens=torch.where(dropped[:, None], null, data.tokens[index, wording]),
        x=torch.where(dropped.view(-1, 1, 1, 1), seen, x),
        weights=weights,
        pairs=pairs,
        edits=edits,
    )


class Trainer:
    """Model, moving average, optimiser and step count; everything that a checkpoint holds."""

    def __init__(self, args: argparse.Namespace, tokenizer) -> None:
        self.args, self.tokenizer, self.device = args, tokenizer, torch.device(args.device)
        torch.manual_seed(args.seed)
        self.unet = make_unet(CHANNELS, args.size // 8).to(self.device, memory_format=torch.channels_last)
        self.unet.set_attn_processor(AttnProcessor())  # for so few tokens the fused kernel is slower on a CPU
        self.text = make_text_encoder(tokenizer).to(self.device)
        self.scheduler = make_scheduler()
        self.parameters = [*self.unet.parameters(), *self.text.parameters()]
        self.average = [p.detach().clone() for p in self.parameters]
        self.optimizer = torch.optim.AdamW(
            self.parameters, args.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True
        )
        self.generator = torch.Generator().manual_seed(args.seed)
        self.step, self.seconds = 0, 0.0
        self.bf16 = has_fast_bf16(self.device)
        null = tokenizer([""], padding="max_length", max_length=LENGTH).input_ids
        self.null = torch.tensor(null)
        self.path = Path(args.out) / "checkpoint.pt"

    def predict(self, z_t: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        z_t = z_t.to(self.device, memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            states = self.text(tokens.to(self.device)).last_hidden_state
            return self.unet(z_t, t.to(self.device), states).sample.float()

    def learning_rate(self) -> float:
        """Warm-up, plateau, and a cosine down."""
        p = self.step / self.args.steps
        decay = 0.5 + 0.5 * math.cos(math.pi * min(1.0, max(0.0, (p - PLATEAU) / (1 - PLATEAU))))
        return self.args.lr * min(1.0, (self.step + 1) / 200) * max(decay, 0.01)

    def train_step(self, data: LatentSet) -> float:
        alphas = self.scheduler.alphas_cumprod
        batch = draw_batch(data, self.args.batch, self.null, alphas, self.generator)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        loss = batch_loss(self.predict(batch.z_t, batch.t, batch.tokens).cpu(), batch)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"loss is {loss.item()} at step {self.step}")
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.step += 1
        decay = min(self.args.ema, (1 + self.step) / (20 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - decay)
        return loss.item()

    def swap_average(self) -> None:
        """Exchange the weights with their moving average."""
        with torch.no_grad():
            for p, e in zip(self.parameters, self.average):
                kept = p.detach().clone()
                p.copy_(e)
                e.copy_(kept)

    @torch.no_grad()
    def validate(self, held: LatentSet, count: int = 48) -> dict[str, float]:
        """Held-out counterfactual pairs (a, b).

        own, null, partner: v-MSE of plain denoising at t > 300, inside the pairs' difference, under these captions.
        costumes, others: how the answer turns with the caption, from the noised a at t of 400 and 800: the cosine of
        x(z_t, y_b) - x(z_t, y_a) with b - a.
        """
        generator = torch.Generator().manual_seed(1)
        ia = held.pairs[:: max(1, len(held.pairs) // count)][:count]
        index, n = torch.cat([ia, ia + 1]), len(ia)
        x = held.latents[index].float()
        eps = torch.randn((n, *x.shape[1:]), generator=generator).repeat(2, 1, 1, 1)
        t = (torch.arange(n) * 690 // n + 305).repeat(2)
        mask = difference(x[:n], x[n:]).float().repeat(2, 1, 1, 1)
        own, other = held.tokens[index, 0], held.tokens[torch.cat([ia + 1, ia]), 0]
        z_t, v_weight = self.noised(x, eps, t), time_weights(self.scheduler.alphas_cumprod[t], cap=1e9)
        result = {}
        for name, y in {"own": own, "null": self.null.expand(2 * n, -1), "partner": other}.items():
            error = (self.predict(z_t, t, y).cpu() - x) ** 2 * v_weight
            result[name] = ((error.mean(1, keepdim=True) * mask).sum() / mask.sum()).item()
        for time_step in (400, 800):
            t = torch.full((2 * n,), time_step)
            answers = self.predict(self.noised(x[:n].repeat(2, 1, 1, 1), eps, t), t, own).cpu()
            turn = torch.nn.functional.cosine_similarity(
                (answers[n:] - answers[:n]).flatten(1), (x[n:] - x[:n]).flatten(1)
            )
            costume = torch.isin(ia, held.costume_pairs)
            result[f"costumes_{time_step}"] = turn[costume].mean().item()
            result[f"others_{time_step}"] = turn[~costume].mean().item()
        return result

    def noised(self, x: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        a = self.scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)
        return a.sqrt() * x + (1 - a).sqrt() * eps

    def start_from(self, folder: Path) -> None:
        """Take the weights of an earlier prior of the same shape."""
        unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
        text = CLIPTextModel.from_pretrained(folder / "text_encoder", torch_dtype=torch.float32)
        self.unet.load_state_dict(unet.state_dict())
        self.text.load_state_dict(text.state_dict())
        for average, p in zip(self.average, self.parameters):
            average.copy_(p.detach())

    def save(self) -> None:
        state = {
            "unet": self.unet.state_dict(), "text": self.text.state_dict(), "average": self.average,
            "optimizer": self.optimizer.state_dict(), "generator": self.generator.get_state(),
            "step": self.step, "seconds": self.seconds,
        }  # fmt: skip
        torch.save(state, self.path.with_suffix(".new"))
        os.replace(self.path.with_suffix(".new"), self.path)

    def resume(self) -> None:
        if not self.path.exists():
            return
        state = torch.load(self.path, weights_only=True, map_location="cpu")
        self.unet.load_state_dict(state["unet"])
        self.text.load_state_dict(state["text"])
        for average, saved in zip(self.average, state["average"]):
            average.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.step, self.seconds = state["step"], state["seconds"]
        print(f"resumed at step {self.step}")


def publish(
    trainer: Trainer, autoencoder: PatchAutoencoder, held: LatentSet, sheet: Path
) -> dict[str, float]:
    """Validate, export and sample with the averaged weights, then save a checkpoint."""
    trainer.swap_average()
    trainer.unet.eval(), trainer.text.eval()
    losses = trainer.validate(held)
    parts = {"vae": autoencoder, "unet": trainer.unet, "text_encoder": trainer.text}
    export.write_prior(
        Path(trainer.args.export), parts, tokenizer=trainer.tokenizer, scheduler=trainer.scheduler
    )
    export.sample_sheet(trainer, autoencoder, sheet)
    trainer.unet.train(), trainer.text.train()
    trainer.swap_average()
    trainer.save()
    return losses


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", default="outputs/prior_data", help="cache of rendered pictures")
    p.add_argument("--out", default="outputs/prior_run", help="checkpoints, log and sample sheets")
    p.add_argument("--export", default="data/prior", help="folder of the finished model")
    p.add_argument(
        "--start", default="", help="folder of an earlier prior whose weights and latents to continue from"
    )
    p.add_argument("--shards", type=int, default=72, help="shards of 512 pictures; two are held out")
    p.add_argument("--size", type=int, default=128, help="picture size in pixels")
    p.add_argument("--steps", type=int, default=12_000)
    p.add_argument("--batch", type=int, default=0, help="default: 16 on a CPU, 256 on CUDA")
    p.add_argument("--lr", type=float, default=8e-4)
    p.add_argument("--ema", type=float, default=0.998)
    p.add_argument("--export-minutes", type=float, default=10.0, help="active time between exports")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--workers", type=int, default=2, help="processes that render")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--seed", type=int, default=0)
    args = p.parse_args()
    args.batch = args.batch or (256 if args.device.startswith("cuda") else 16)
    return args


def kept_tokenizer(folder: Path) -> CLIPTokenizer:
    """The run's tokenizer: byte pairs that are equally frequent merge in a new order each time they are trained."""
    if not folder.exists():
        build_tokenizer().save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    Path(args.out).mkdir(parents=True, exist_ok=True)
    paths = fill_cache(
        Path(args.data), args.shards, groups=64, size=args.size, seed=1000, workers=args.workers
    )
    folder = Path(args.start) / "vae" if args.start else Path(args.out) / "autoencoder"
    if not folder.exists():
        fit_autoencoder(paths, CHANNELS).save_pretrained(folder)
    autoencoder = PatchAutoencoder.from_pretrained(folder)
    tokenizer = kept_tokenizer(Path(args.out) / "tokenizer")
    held, data = (
        load_latents(paths[:2], autoencoder, tokenizer),
        load_latents(paths[2:], autoencoder, tokenizer),
    )
    trainer = Trainer(args, tokenizer)
    if args.start:
        trainer.start_from(Path(args.start))
    trainer.resume()
    print(
        f"{len(data.axes)} pictures, {sum(p.numel() for p in trainer.parameters) / 1e6:.1f}M parameters",
        flush=True,
    )
    running, exported, first = 0.0, trainer.seconds, trainer.step == 0
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    bar = tqdm(total=args.steps, initial=trainer.step, desc="train", mininterval=20)
    while trainer.step < args.steps:
        if stop:
            trainer.save()
            sys.exit(f"stopped at step {trainer.step}; the same command continues")
        start = time.process_time()  # active time: a suspended run does not count
        loss = trainer.train_step(data)
        trainer.seconds += time.process_time() - start
        running = loss if not running else 0.99 * running + 0.01 * loss
        bar.update()
        bar.set_postfix(loss=f"{running:.4f}", lr=f"{trainer.learning_rate():.1e}", refresh=False)
        minutes = 3.0 if first else args.export_minutes
        if trainer.seconds - exported > 60 * minutes:
            exported, first = trainer.seconds, False
            losses = publish(trainer, autoencoder, held, Path(args.out) / f"samples-{trainer.step:06d}.png")
            report(trainer, running, losses)
    report(trainer, running, publish(trainer, autoencoder, held, Path(args.out) / "samples.png"))


def report(trainer: Trainer, running: float, losses: dict[str, float]) -> None:
    line = " ".join(f"{name} {value:.4f}" for name, value in losses.items())
    text = f"step {trainer.step} cpu-seconds {trainer.seconds:.0f} train {running:.4f} | {line}"
    tqdm.write(text)
    with open(Path(trainer.args.out) / "losses.txt", "a") as file:
        file.write(text + "\n")


if __name__ == "__main__":
    main()
