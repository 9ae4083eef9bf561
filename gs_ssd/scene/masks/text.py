"""What words name: a segmentation model marks them in several views, and the marks are lifted to the Gaussians.

CLIPSeg (Lüddecke & Ecker, 2022) and SAM 3 (Carion et al., 2025), both through transformers. Pictures are prepared
here, because the models' own image processors want torchvision.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from gs_ssd import checks
from gs_ssd.errors import UserError
from gs_ssd.scene.gaussians import Gaussians
from gs_ssd.scene.masks.lifting import lift
from gs_ssd.scene.masks.mask import Mask, MaskContext

_CLIPSEG = "CIDAS/clipseg-rd64-refined"
_SIZE = 352  # pixels of a view, CLIPSeg's own
_MEAN = {"clipseg": (0.485, 0.456, 0.406), "sam3": (0.5, 0.5, 0.5)}
_STD = {"clipseg": (0.229, 0.224, 0.225), "sam3": (0.5, 0.5, 0.5)}
_TOKENS = {"clipseg": 77, "sam3": 32}
_INSTEAD = "or select with mask=prior, mask=sphere or mask=flood"


class Text(Mask):
    """The Gaussians that show what `words` say, such as "the hair".

    Args:
        model: a folder or hub name of CLIPSeg or SAM 3 weights.
        level: from which score in [0, 1] a pixel counts as named.
        threshold: the share of a Gaussian that must be named.
        votes: how many views must agree.
        views: how many look.
    """

    hint = "name something that is in the picture, or lower mask.level"

    def __init__(
        self,
        words: str,
        model: str = _CLIPSEG,
        level: float = 0.4,
        threshold: float = 0.5,
        votes: int = 1,
        views: int = 12,
    ) -> None:
        self.words, self.model = checks.words("mask.words", words), checks.words("mask.model", model)
        self.level = checks.number("mask.level", level, above=0, below=1)
        self.threshold = checks.number("mask.threshold", threshold, above=0, most=1)
        self.views = checks.whole("mask.views", views, 1, 1000)
        self.votes = checks.whole("mask.votes", votes, 1, views)

    def find(self, gaussians: Gaussians, context: MaskContext) -> Tensor:
        context.need(self, "renderer")
        if context.cameras is None:
            context.need(self, "frame")
        assert context.renderer is not None
        network, tokenizer, kind = self._load(gaussians.device)
        cameras = context.around(self.views, _SIZE).to(gaussians.device)
        pictures = [
            self._scores(context.renderer(gaussians, cameras[i]).rgb, network, tokenizer, kind) >= self.level
            for i in range(len(cameras))
        ]
        return lift(
            gaussians,
            cameras,
            torch.cat(pictures),
            context.renderer,
            threshold=self.threshold,
            votes=min(self.votes, len(cameras)),
        )

    def _load(self, device: torch.device) -> tuple[Any, Any, str]:
        """The network, its tokenizer, and which of the two kinds it is."""
        from transformers import AutoConfig, AutoTokenizer, CLIPSegForImageSegmentation, Sam3Model
        from transformers.utils import logging

        path = os.path.expanduser(self.model)
        if not os.path.isdir(path):
            self._check_hub(path)
        bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            # SAM 3's published folder calls itself by its video model, of which Sam3Model is the detector.
            kind = AutoConfig.from_pretrained(path).model_type.removesuffix("_video")
            if kind not in _MEAN:
                raise UserError(
                    f"mask.model={self.model} is a {kind} model; give CLIPSeg or SAM 3, {_INSTEAD}"
                )
            network = {"clipseg": CLIPSegForImageSegmentation, "sam3": Sam3Model}[kind].from_pretrained(path)
            tokenizer = AutoTokenizer.from_pretrained(path)
        except (OSError, ValueError, ImportError) as error:
            if isinstance(error, UserError):
                raise
            raise self._missing(" ".join(str(error).split())[:160]) from error
        finally:
            if bars:
                logging.enable_progress_bar()
        return network.to(device).eval(), tokenizer, kind

    def _check_hub(self, name: str) -> None:
        """Raise UserError where a model is neither cached nor to be had; transformers would retry for half a minute."""
        from huggingface_hub import HfApi, errors, try_to_load_from_cache

        try:
            if not isinstance(try_to_load_from_cache(name, "config.json"), str):
                HfApi().model_info(name, timeout=10)
        except errors.HFValidationError as error:
            raise self._missing("no such folder") from error
        except errors.GatedRepoError as error:
            raise self._missing("it is gated: accept its licence and log in with `hf auth login`") from error
        except errors.RepositoryNotFoundError as error:
            raise self._missing("the hub has no model of this name") from error
        except Exception as error:  # the network's own, of several libraries
            raise self._missing("the hub can't be reached") from error

    def _missing(self, reason: str) -> UserError:
        return UserError(
            f"mask=text needs the model {self.model}, which isn't here ({reason}); give mask.model=<folder with "
            f"CLIPSeg or SAM 3 weights>, {_INSTEAD}"
        )

    def _scores(self, rgb: Tensor, network: Any, tokenizer: Any, kind: str) -> Tensor:
        """How well each pixel fits the words, [1, H, W] in [0, 1], of one picture [1, H, W, 3]."""
        size = network.config.vision_config.image_size
        pixels = torch.nn.functional.interpolate(
            rgb.clamp(0, 1).permute(0, 3, 1, 2), size=(size, size), mode="bicubic", antialias=True
        )
        pixels = (pixels - pixels.new_tensor(_MEAN[kind])[:, None, None]) / pixels.new_tensor(_STD[kind])[
            :, None, None
        ]
        tokens = tokenizer(
            [self.words], padding="max_length", max_length=_TOKENS[kind], truncation=True, return_tensors="pt"
        ).to(rgb.device)
        output = network(
            pixel_values=pixels, input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        )
        logits = output.semantic_seg[:, 0] if kind == "sam3" else output.logits.reshape(1, size, size)
        scores = logits.sigmoid()[:, None]
        return torch.nn.functional.interpolate(scores, size=rgb.shape[1:3], mode="bilinear")[:, 0]
