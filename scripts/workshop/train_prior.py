"""Train the shipped text-to-image prior from nothing: render captioned heads, then train a latent diffusion model.

    python scripts/workshop/train_prior.py

Notation: z0 latents [B, K, 16, 16]; z_t = sqrt(a_t) z0 + sqrt(1 - a_t) eps; y caption; the UNet predicts
v = sqrt(a_t) eps - sqrt(1 - a_t) z0 from (z_t, t, y). On a coarse grid of many channels, eps-prediction spends a small
network on copying the noise exactly, and its errors at high t drown what the caption says; v asks for the picture.

A batch holds single pictures and counterfactual pairs. The members of a pair show one head with one attribute changed;
they share noise, timestep and light, and their loss counts more where they differ, so that the caption is the only
thing that can explain the difference. An interrupted run continues where it stopped.
"""

import argparse
import math
import os
import signal
import sys
import time
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # see train.py

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPTextConfig, CLIPTextModel

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gs_ssd.diffusion.patch_autoencoder import PatchAutoencoder
from scripts.workshop.heads import export
from scripts.workshop.heads.dataset import fill_cache
from scripts.workshop.heads.latents import LatentSet, fit_autoencoder, load_latents
from scripts.workshop.heads.vocabulary import LENGTH, build_tokenizer

CHANNELS, WIDTH = 24, 128  # latent channels, width of the text encoder
NULL_SHARE = 0.1
COSTUME_SHARE = 0.3  # of the pairs are drawn from costume pairs only, on top of those drawn from all
PLATEAU = 0.55  # share of the steps at the full learning rate
LOW_T, LOW_SHARE = 300, 0.2  # little text is decided below LOW_T


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
        prediction_type="v_prediction",
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


def difference_weights(za: Tensor, zb: Tensor) -> Tensor:
    """Loss weights [P, 1, h, w] that grow where partners differ, more so when they differ in little."""
    mask = ((za - zb).abs().mean(1, keepdim=True) > 0.12).float()
    share = mask.mean((1, 2, 3), keepdim=True).clamp_min(1e-3)
    return 1 + mask * (0.25 / share).clamp(0, 5)


def draw_batch(data: LatentSet, batch: int, null: Tensor, alphas: Tensor, generator: torch.Generator):
    """Return z_t, t, tokens, v and loss weights; the first 2 P members are the P pairs."""
    pairs = round(batch * 0.3125)
    rand = lambda n, high: torch.randint(0, high, (n,), generator=generator)  # noqa: E731
    costumed = data.costume_pairs[rand(pairs, len(data.costume_pairs))]
    ia = torch.where(
        torch.rand(pairs, generator=generator) < COSTUME_SHARE,
        costumed,
        data.pairs[rand(pairs, len(data.pairs))],
    )
    single = data.singles[rand(batch - 2 * pairs, len(data.singles))]
    index = torch.cat([ia, ia + 1, single])
    z0 = data.latents[index].float()
    share = lambda x: torch.cat([x[:pairs], x])  # noqa: E731  partners get the same draw
    eps = share(torch.randn((batch - pairs, *z0.shape[1:]), generator=generator))
    t = share(draw_timesteps(batch - pairs, generator))
    wording = share(rand(batch - pairs, 2))
    dropped = share(torch.rand(batch - pairs, generator=generator) < NULL_SHARE)
    tokens = torch.where(dropped[:, None], null, data.tokens[index, wording])
    weights = torch.ones(batch, 1, *z0.shape[2:])
    weights[: 2 * pairs] = difference_weights(z0[:pairs], z0[pairs : 2 * pairs]).repeat(2, 1, 1, 1)
    weights[dropped] = 1.0
    a = alphas[t].view(-1, 1, 1, 1)
    z_t, v = a.sqrt() * z0 + (1 - a).sqrt() * eps, a.sqrt() * eps - (1 - a).sqrt() * z0
    return z_t, t, tokens, v, weights


class Trainer:
    """Model, moving average, optimiser and step count; everything that a checkpoint holds."""

    def __init__(self, args: argparse.Namespace, tokenizer) -> None:
        self.args, self.tokenizer, self.device = args, tokenizer, torch.device(args.device)
        torch.manual_seed(args.seed)
        self.unet = make_unet(CHANNELS, args.size // 8).to(self.device, memory_format=torch.channels_last)
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
        z_t, t, tokens, v, weights = draw_batch(
            data, self.args.batch, self.null, self.scheduler.alphas_cumprod, self.generator
        )
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        error = (self.predict(z_t, t, tokens) - v.to(self.device)) ** 2
        loss = (error * weights.to(self.device)).mean()
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
        return error.mean().item()

    def swap_average(self) -> None:
        """Exchange the weights with their moving average."""
        with torch.no_grad():
            for p, e in zip(self.parameters, self.average):
                kept = p.detach().clone()
                p.copy_(e)
                e.copy_(kept)

    @torch.no_grad()
    def validate(self, held: LatentSet, count: int = 48) -> dict[str, float]:
        """Held-out v-MSE of counterfactual pairs at t > 300, inside the pairs' difference and overall."""
        generator = torch.Generator().manual_seed(1)
        ia = held.pairs[:: max(1, len(held.pairs) // count)][:count]
        index = torch.cat([ia, ia + 1])
        z0 = held.latents[index].float()
        n = len(ia)
        eps = torch.randn((n, *z0.shape[1:]), generator=generator).repeat(2, 1, 1, 1)
        t = (torch.arange(n) * 690 // n + 305).repeat(2)
        a = self.scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)
        z_t, v = a.sqrt() * z0 + (1 - a).sqrt() * eps, a.sqrt() * eps - (1 - a).sqrt() * z0
        mask = difference_weights(z0[:n], z0[n:]).gt(1).float().repeat(2, 1, 1, 1)
        partner = torch.cat([ia + 1, ia])
        tokens = {
            "own": held.tokens[index, 0],
            "null": self.null.expand(2 * n, -1),
            "partner": held.tokens[partner, 0],
        }
        result = {}
        for name, y in tokens.items():
            error = (self.predict(z_t, t, y).cpu() - v) ** 2
            result[name] = error.mean().item()
            result[f"{name}_inside"] = ((error.mean(1, keepdim=True) * mask).sum() / mask.sum()).item()
        return result

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


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    Path(args.out).mkdir(parents=True, exist_ok=True)
    paths = fill_cache(
        Path(args.data), args.shards, groups=64, size=args.size, seed=1000, workers=args.workers
    )
    folder = Path(args.out) / "autoencoder"
    if not folder.exists():
        fit_autoencoder(paths, CHANNELS).save_pretrained(folder)
    autoencoder = PatchAutoencoder.from_pretrained(folder)
    tokenizer = build_tokenizer()
    held, data = (
        load_latents(paths[:2], autoencoder, tokenizer),
        load_latents(paths[2:], autoencoder, tokenizer),
    )
    trainer = Trainer(args, tokenizer)
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
        bar.set_postfix(mse=f"{running:.4f}", lr=f"{trainer.learning_rate():.1e}", refresh=False)
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
