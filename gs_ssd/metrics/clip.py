"""CLIP metrics of an edit, on paired views.

With unit features I(·) of a render and T(·) of a prompt:

    clip_similarity  cos(I_edit, T_target)
    clip_direction   cos(D, T_target − T_source), D = I_edit − I_source, both renders from the same camera
    retrieval_top1   share of views whose edited render is closest to the target among a list of prompts
    clip_source_similarity      cos(I_edit, I_source): how much of the source is still there
    clip_direction_consistency  cos(D, D') with the next view's D' (Instruct-NeRF2NeRF, Haque et al., ICCV 2023)

The published script of Stable Score Distillation has habits that change its numbers; `compat=True` keeps them, for a
comparison with its Table 1: pictures enter at their cameras' own size, as 0-255 where [0, 1] is expected, transposed,
resized without antialiasing, and the edits and the originals are two independent draws of 20 views, so that a direction
compares different views.

The offline default is the small dual encoder in data/judge, which never takes part in an edit; the same functions run
on openai/clip-vit-large-patch14.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gs_ssd.errors import UserError

if TYPE_CHECKING:
    from transformers import CLIPModel, CLIPTokenizer

COMPAT_VIEWS, COMPAT_SEED = 20, 42
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


class Clip:
    """A frozen dual encoder: unit features of images [B, H, W, 3] in [0, 1] and of prompts."""

    def __init__(
        self, model: CLIPModel, tokenizer: CLIPTokenizer, *, device: torch.device | str = "cpu"
    ) -> None:
        self.model = model.to(device).eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.device = torch.device(device)
        self.size = model.config.vision_config.image_size
        self.mean = torch.tensor(MEAN, device=self.device).reshape(1, 3, 1, 1)
        self.std = torch.tensor(STD, device=self.device).reshape(1, 3, 1, 1)

    @classmethod
    def from_pretrained(cls, path: str, *, device: torch.device | str = "cpu") -> Clip:
        """Load a folder or a hub model; raises UserError when it can't be had."""
        from transformers import CLIPModel, CLIPTokenizer  # seconds that only a judge needs
        from transformers.utils import logging

        logging.disable_progress_bar()
        try:
            model = CLIPModel.from_pretrained(path, use_safetensors=True)
            tokenizer = CLIPTokenizer.from_pretrained(path)
        except Exception as error:  # many types, all of them a bad or missing model
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise UserError(f"can't load the CLIP model {path}: {reason}") from error
        return cls(model, tokenizer, device=device)

    @torch.no_grad()
    def image_features(self, images: Tensor, *, compat: bool = False) -> Tensor:
        """[B, D]; bicubic resize to the model's square, as the published evaluation does, with antialiasing.

        `compat` leaves out the antialiasing, transposes the pictures and scales them to 0-255 first.
        """
        x = images.to(self.device).permute(0, 3, 1, 2)
        size = (self.size, self.size)
        if compat:
            x = F.interpolate(255 * x.transpose(2, 3), size, mode="bicubic", align_corners=False)
        else:
            x = F.interpolate(x, size, mode="bicubic", antialias=True).clamp(0, 1)
        return F.normalize(
            _tensor(self.model.get_image_features(pixel_values=(x - self.mean) / self.std)), dim=-1
        )

    def squashed(self, images: Tensor) -> Tensor:
        """[B, size, size, 3], as `compat` resizes pictures: what it makes of them is the same before and after."""
        x = F.interpolate(images.permute(0, 3, 1, 2), (self.size, self.size), mode="bicubic")
        return x.permute(0, 2, 3, 1)

    @torch.no_grad()
    def text_features(self, prompts: Sequence[str]) -> Tensor:
        """[len(prompts), D]."""
        length = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(
            list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).to(self.device)
        features = self.model.get_text_features(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
        )
        return F.normalize(_tensor(features), dim=-1)


def _tensor(features: Any) -> Tensor:
    """transformers 5 wraps the projected features in an output object."""
    return features if isinstance(features, Tensor) else features.pooler_output


def direction(delta_image: Tensor, delta_text: Tensor) -> Tensor:
    """cos(ΔI, ΔT) per row; 0 where nothing changed."""
    return F.cosine_similarity(delta_image, delta_text, dim=-1, eps=1e-8)


def clip_metrics(
    clip: Clip,
    *,
    before: Tensor,
    after: Tensor,
    source: str,
    target: str,
    candidates: Sequence[str] | None = None,
) -> dict[str, float]:
    """Means over views; `before` and `after` are [V, H, W, 3] from the same cameras.

    `candidates` are the prompts that retrieval chooses among; target and source are always in it.
    """
    prompts = list(dict.fromkeys([target, source, *(candidates or [])]))
    image_before, image_after = clip.image_features(before), clip.image_features(after)
    text = clip.text_features(prompts)
    delta = image_after - image_before
    return {
        "clip_similarity": (image_after @ text[0]).mean().item(),
        "clip_similarity_before": (image_before @ text[0]).mean().item(),
        "clip_source_similarity": (image_after * image_before).sum(dim=-1).mean().item(),
        "clip_direction": direction(delta, (text[0] - text[1])[None]).mean().item(),
        "clip_direction_consistency": direction(delta, delta.roll(-1, dims=0)).mean().item(),
        "retrieval_top1": ((image_after @ text.T).argmax(dim=-1) == 0).float().mean().item(),
    }


def compat_metrics(
    clip: Clip, *, before: Tensor, after: Tensor, source: str, target: str
) -> dict[str, float]:
    """clip_similarity and clip_direction as the published script computes them, of views [V, H, W, 3].

    Raises UserError with fewer views than the 20 it draws.
    """
    if min(len(before), len(after)) < COMPAT_VIEWS:
        raise UserError(
            f"{len(after)} views are too few for the published script's habits, which draw {COMPAT_VIEWS}; "
            f"set metrics.views={COMPAT_VIEWS} or more"
        )
    generator = torch.Generator().manual_seed(COMPAT_SEED)
    drawn = [
        images[torch.randperm(len(images), generator=generator)[:COMPAT_VIEWS]] for images in (before, after)
    ]
    image_before, image_after = (clip.image_features(images, compat=True) for images in drawn)
    text = clip.text_features([target, source])
    return {
        "clip_similarity_compat": (image_after @ text[0]).mean().item(),
        "clip_direction_compat": direction(image_after - image_before, (text[0] - text[1])[None])
        .mean()
        .item(),
    }
