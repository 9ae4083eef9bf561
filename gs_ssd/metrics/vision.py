"""The features of a vision transformer: what the structure and the judge distance compare.

Any ViT of transformers serves, and the vision half of a CLIP: DINO (facebook/dino-vitb8) where there is a hub, the
judge in data/judge where there is none.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

from gs_ssd.errors import UserError
from gs_ssd.metrics import clip

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
KEY_NAMES = ("key", "k_proj")  # of the layers that make attention's keys, in transformers


class Vision:
    """A frozen vision transformer: keys and hidden states of images [B, H, W, 3] in [0, 1].

    Raises UserError when the model has no attention keys.
    """

    def __init__(self, model: PreTrainedModel, *, device: torch.device | str = "cpu") -> None:
        config = model.config
        paired = hasattr(model, "vision_model")  # the vision half of a CLIP
        self.model: nn.Module = (
            (model.vision_model if paired else model).to(device).eval().requires_grad_(False)
        )
        self.size: int = getattr(config, "vision_config", config).image_size
        self.key_layers = [m for n, m in self.model.named_modules() if n.rsplit(".", 1)[-1] in KEY_NAMES]
        if not self.key_layers:
            raise UserError(
                f"a {config.model_type} model has no attention keys to compare; give a ViT or CLIP model"
            )
        self.device = torch.device(device)
        statistics = (clip.MEAN, clip.STD) if paired else IMAGENET
        self.mean, self.std = (torch.tensor(s, device=self.device).reshape(1, 3, 1, 1) for s in statistics)

    @classmethod
    def from_pretrained(cls, path: str, *, device: torch.device | str = "cpu") -> Vision:
        """Load a folder or a hub model; raises UserError when it can't be had."""
        try:
            model = AutoModel.from_pretrained(path)
        except Exception as error:  # many types, all of them a bad or missing model
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise UserError(f"can't load the vision transformer {path}: {reason}") from error
        return cls(model, device=device)

    def _pixels(self, images: Tensor, *, compat: bool = False) -> Tensor:
        """The model's input [B, 3, size, size]; `compat` as in `structure_distance`."""
        x = images.to(self.device).permute(0, 3, 1, 2)
        x = F.interpolate(x, (self.size, self.size), mode="bilinear", antialias=not compat)
        return ((255 * x if compat else x) - self.mean) / self.std

    @torch.no_grad()
    def keys(self, images: Tensor, *, compat: bool = False) -> Tensor:
        """The last layer's keys of all tokens, heads side by side: [B, tokens, width]."""
        caught: list[Tensor] = []
        hook = self.key_layers[-1].register_forward_hook(lambda layer, inputs, keys: caught.append(keys))
        try:
            self.model(pixel_values=self._pixels(images, compat=compat))
        finally:
            hook.remove()
        return caught[0]

    @torch.no_grad()
    def hidden(self, images: Tensor) -> tuple[Tensor, ...]:
        """The tokens after the embedding and after each layer, each [B, tokens, width]."""
        return self.model(pixel_values=self._pixels(images), output_hidden_states=True).hidden_states
