"""Train the small dual encoder that scores edits, `data/judge`: a CLIP of pictures and captions of heads.

    python scripts/workshop/train_judge.py

It judges what the prior made, so it shares no weights, seed, picture or augmentation with it and is never used in an
edit. Captions with the opening HELD_OUT_OPENING are kept for the report.

Loss: with unit features I_i, T_j and P_ij = 1 where caption j names the same costume as picture i (or is its very own),
the cross-entropy between softmax(I_i . T_j / tau) and P_ij / sum_j P_ij, over rows and over columns.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # see train.py

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPConfig, CLIPModel

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gs_ssd.metrics.clip import MEAN, STD, Clip
from scripts.workshop.heads.attributes import COSTUMES
from scripts.workshop.heads.captions import NAMES
from scripts.workshop.heads.dataset import fill_cache
from scripts.workshop.heads.vocabulary import LENGTH, build_tokenizer

SIZE, PATCH, WIDTH = 96, 12, 128
SEED = 700_000
HELD_OUT_OPENING = "a picture of"
HEAD_ONLY_SHARE = 0.5  # of the costumes are worn on the head alone, over the partner's clothes


def make_model(tokenizer) -> CLIPModel:
    tower = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": 4}
    text = tower | {"num_hidden_layers": 2, "vocab_size": len(tokenizer), "max_position_embeddings": LENGTH}
    text |= {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    vision = tower | {"num_hidden_layers": 5, "image_size": SIZE, "patch_size": PATCH}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH))


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror, crop, tint, contrast, blur and noise: [B, 3, S, S] in [0, 1] -> the same shape."""
    n = len(images)
    rand = lambda *shape: torch.rand(shape, generator=generator)  # noqa: E731
    images = torch.where(rand(n, 1, 1, 1) < 0.5, images.flip(3), images)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 0.78 + 0.32 * rand(n)
    theta[:, :, 2] = 0.2 * (rand(n, 2) - 0.5)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    mean = images.mean((1, 2, 3), keepdim=True)
    images = mean + (images - mean) * (0.7 + 0.6 * rand(n, 1, 1, 1))
    images = images * (0.85 + 0.3 * rand(n, 3, 1, 1) * 0.5 + 0.15 * rand(n, 1, 1, 1))
    soft = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    images = torch.lerp(images, soft, rand(n, 1, 1, 1) * (rand(n, 1, 1, 1) < 0.5))
    noise = (
        torch.randn(images.shape, generator=generator) * 0.08 * rand(n, 1, 1, 1) * (rand(n, 1, 1, 1) < 0.5)
    )
    return (images + noise).clamp(0, 1)


def keep_shoulders(plain: Tensor, costumed: Tensor, row: int) -> Tensor:
    """The costumed picture above `row`, its plain partner below: what an edit of the head alone looks like."""
    return torch.cat([costumed[..., :row, :], plain[..., row:, :]], dim=-2)


class Pictures:
    """Shards in memory: images uint8 [N, S, S, 3], two captions each, costumes, axes; partners are adjacent."""

    def __init__(self, paths: list[Path]) -> None:
        self.images = np.concatenate([np.load(p.with_suffix(".npy")) for p in paths])
        words = [json.loads(p.with_suffix(".json").read_text()) for p in paths]
        self.captions = [tuple(c) for w in words for c in w["captions"]]
        self.axes, self.costumes = ([v for w in words for v in w[key]] for key in ("axes", "costumes"))

    def tensor(self, index) -> Tensor:
        return torch.from_numpy(self.images[index]).permute(0, 3, 1, 2).float() / 255


def contrastive_loss(
    model: CLIPModel, pixels: Tensor, tokens, captions: list[str], costumes: list[str]
) -> Tensor:
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    out = model(
        pixel_values=(pixels - mean) / std, input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
    )
    same = [
        [float(ci == cj or ki == kj != "") for cj, kj in zip(captions, costumes)]
        for ci, ki in zip(captions, costumes)
    ]
    positive = torch.tensor(same)
    target = positive / positive.sum(1, keepdim=True)  # symmetric relation: the same for rows and columns
    logits = out.logits_per_image
    return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target))


def train(model: CLIPModel, tokenizer, data: Pictures, args: argparse.Namespace) -> None:
    generator = torch.Generator().manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    optimizer = torch.optim.AdamW(model.parameters(), args.lr, weight_decay=0.05, fused=True)
    usable = [[c for c in pair if HELD_OUT_OPENING not in c] for pair in data.captions]
    first = [i for i in range(0, len(usable), 2) if usable[i] and usable[i + 1]]
    bar = tqdm(range(args.steps), mininterval=20)
    for step in bar:
        warm, rest = min(1.0, (step + 1) / 100), 0.5 + 0.5 * np.cos(np.pi * step / args.steps)
        for group in optimizer.param_groups:
            group["lr"] = args.lr * warm * max(rest, 0.02)
        half = rng.choice(first, args.batch // 2, replace=False)
        index = np.concatenate([half, half + 1])
        captions = [usable[i][int(rng.integers(len(usable[i])))] for i in index]
        tokens = tokenizer(
            captions, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt"
        )
        pixels = data.tensor(index)
        for k, i in enumerate(half):
            if data.axes[i] == "costume" and rng.random() < HEAD_ONLY_SHARE:
                row = int(SIZE * rng.uniform(0.6, 0.85))
                pixels[len(half) + k] = keep_shoulders(pixels[k], pixels[len(half) + k], row)
        pixels = augment(pixels, generator)
        loss = contrastive_loss(model, pixels, tokens, captions, [data.costumes[i] for i in index])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=np.log(50.0))
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)


@torch.no_grad()
def report(model: CLIPModel, tokenizer, held: Pictures) -> dict[str, float]:
    """Accuracies on unseen heads and captions, in percent."""
    clip = Clip(model, tokenizer)
    features = torch.cat(
        [
            clip.image_features(torch.from_numpy(held.images[k : k + 64]).float() / 255)
            for k in range(0, len(held.images), 64)
        ]
    )
    kinds = ["", *COSTUMES]
    prompts = [f"{HELD_OUT_OPENING} {NAMES[k][0] if k else 'a man'}" for k in kinds]
    guess = (features @ clip.text_features(prompts).T).argmax(1).tolist()
    hits = [kinds[g] == k for g, k in zip(guess, held.costumes)]
    result = {"costume (13 ways)": 100 * float(np.mean(hits))}
    dressed = [i for i in range(1, len(held.axes), 2) if held.axes[i] == "costume"]
    mixed = keep_shoulders(held.tensor([i - 1 for i in dressed]), held.tensor(dressed), int(0.72 * SIZE))
    guess = (
        (clip.image_features(mixed.permute(0, 2, 3, 1)) @ clip.text_features(prompts).T).argmax(1).tolist()
    )
    hits = [kinds[g] == held.costumes[i] for g, i in zip(guess, dressed)]
    result[f"costume on the head alone (13 ways, {len(dressed)})"] = 100 * float(np.mean(hits))
    own = clip.text_features([pair[0] for pair in held.captions])
    scores = (features * own).sum(1)
    partner = own.view(-1, 2, own.shape[1]).flip(1).flatten(0, 1)
    better = (scores > (features * partner).sum(1)).tolist()
    for axis in sorted({a for a in held.axes if a}):
        chosen = [
            b for b, a, i in zip(better, held.axes, range(len(better))) if a == axis and differs(held, i)
        ]
        result[f"own or partner's caption: {axis} ({len(chosen)})"] = 100 * float(np.mean(chosen))
    return result


def differs(held: Pictures, i: int) -> bool:
    return held.captions[i][0] != held.captions[i ^ 1][0]


CARD = """# Judge

A {parameters:.1f}M-parameter CLIP (transformers `CLIPModel`: vision 5 layers, {size} px, patch {patch}; text 2 layers;
width {width}) trained only on rendered heads by `scripts/workshop/train_judge.py`. It scores edits
(`gs_ssd/metrics/clip.py`)
and takes no part in them: it shares no weights, seed, pictures or augmentation with `data/prior`.

- Data: {pictures} pictures of heads that the prior never saw, {held} more held out; mirrored, cropped, tinted, blurred
  and noised; half of the costumes on the head alone, over plain clothes. Both models know the same generator, so high
  scores mean "looks like the generator's idea of the word".
- Training: {steps} steps of batch {batch}, AdamW {lr}, {minutes:.0f} CPU minutes on one thread.
- It knows the words of `data/prior/vocabulary.json` and nothing else, and heads and shoulders only.
- 50% in the rows "own or partner" is chance: an attribute that it can't judge. Views from behind are included.

Accuracy on held-out heads, with a caption opening ("{opening} ...") that was never seen in training for the first row:

| test | % |
| --- | --- |
{rows}
"""


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, default=Path("outputs/judge_data"))
    p.add_argument("--out", type=Path, default=Path("data/judge"))
    p.add_argument("--shards", type=int, default=18, help="of 512 pictures; two are held out")
    p.add_argument("--start", type=Path, help="folder of a judge to go on from")
    p.add_argument("--steps", type=int, default=1600)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--workers", type=int, default=1)
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(SEED)
    paths = fill_cache(args.data, args.shards, groups=64, size=SIZE, seed=SEED, workers=args.workers)
    held, data = Pictures(paths[:2]), Pictures(paths[2:])
    tokenizer = build_tokenizer()
    model = CLIPModel.from_pretrained(args.start) if args.start else make_model(tokenizer)
    start = time.process_time()
    train(model.train(), tokenizer, data, args)
    minutes = (time.process_time() - start) / 60
    result = report(model.eval(), tokenizer, held)
    print(result)
    model.save_pretrained(args.out, safe_serialization=True)
    tokenizer.save_pretrained(args.out)
    rows = "\n".join(f"| {name} | {value:.1f} |" for name, value in result.items())
    parameters = sum(q.numel() for q in model.parameters()) / 1e6
    card = CARD.format(
        parameters=parameters, size=SIZE, patch=PATCH, width=WIDTH, pictures=len(data.images), held=len(held.images),
        steps=args.steps, batch=args.batch, lr=args.lr, minutes=minutes, opening=HELD_OUT_OPENING, rows=rows,
    )  # fmt: skip
    (args.out / "README.md").write_text(card)


if __name__ == "__main__":
    main()
