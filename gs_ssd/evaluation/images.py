"""The 2D cases: the pictures of PIE-Bench, or of the embedded one of the sample scenes, in the queue."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from gs_ssd.assets import CONFIGS, DATA
from gs_ssd.checks import number, whole
from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.errors import NonFiniteError, UserError
from gs_ssd.evaluation.pie_bench import CATEGORIES, PieItem, load_pie_bench
from gs_ssd.evaluation.pie_metrics import JUDGE, PieMetrics
from gs_ssd.evaluation.runs import Case, Run, compose_resolved, file_name, pull, seeded
from gs_ssd.metrics.lpips import Lpips
from gs_ssd.results.manifest import write_json
from gs_ssd.session.config import family, image_edit, pick_device, recalled

EMBEDDED = DATA / "pie_bench"
# What pie_bench's `auto` stands for with `data`, and without: there the judge measures, and nothing is downloaded.
PUBLISHED = {"clip": "openai/clip-vit-large-patch14", "structure": "facebook/dino-vitb8", "lpips": True}
OFFLINE = {"clip": None, "structure": None, "lpips": False}
# Settings of edit_image.py.
USED = ("diffusion", "guidance", "timesteps", "steps", "rate", "seed", "device")
ONLY_3D = ("scenes", "prompts", "rates", "validation", "captures")


@dataclass(frozen=True)
class Pictures:
    """The pictures that are edited, and what there is to say about them."""

    items: list[PieItem]
    source: Path
    measured: dict[str, Any]
    notes: list[str]


def pictures(cfg: DictConfig, compared: Mapping[str, Sequence[str]], common: Sequence[str]) -> Pictures:
    """What the settings choose, after a look at all of it; raises UserError before anything is edited."""
    how = measures(cfg)
    first = recalled(next(iter(configs(compared, common).values())))
    check_use(cfg, compared, common)
    whole("steps", first.steps, least=1)
    whole("seed", first.seed, least=0)
    if first.rate is not None:
        number("rate", first.rate, above=0)
    device = pick_device(first.device)
    source = EMBEDDED if cfg.data is None else Path(str(cfg.data)).expanduser()
    items, left_out = with_an_edit(load_pie_bench(source))
    items = spread(items, how.pop("limit"))
    for config in configs(compared, common).values():
        if family(config["diffusion"]["name"], config["diffusion"].get("path")) == "ip2p":
            for item in items:
                instruction(item)  # is it there?
    for note in left_out:
        print(f"warning: {note}", file=sys.stderr)
    notes = [*left_out, *_notes(cfg.data, how)]
    if how["lpips"]:
        try:
            Lpips(device=device)
        except UserError as error:
            how["lpips"] = False
            notes.append(f"No LPIPS: {error}.")
            print(f"warning: no LPIPS: {error}", file=sys.stderr)
    try:
        _meter(str(device), **how)
    except UserError as error:
        raise UserError(
            f"{error}; pie_bench.clip=null and pie_bench.structure=null measure with the judge"
        ) from error
    return Pictures(items, source, how, notes)


def configs(compared: Mapping[str, Sequence[str]], common: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Each variant's configuration of `edit_image.py`, of no picture yet; raises UserError."""
    about = ("prompt.source=a", "prompt.target=b", *common)
    return {name: compose_resolved((*about, *settings), "edit_image") for name, settings in compared.items()}


def plan_pictures(
    chosen: Pictures,
    compared: Mapping[str, Sequence[str]],
    common: Sequence[str],
    *,
    folder: Path,
    seeds: Sequence[int] | None = None,
    shares: Sequence[float] = (1.0,),
) -> list[Run]:
    """Every variant, seed and share of the steps on every picture."""
    runs = []
    for variant, config in configs(compared, common).items():
        for item in chosen.items:
            case = Case(item.key, CATEGORIES[item.category], picture=item)
            prompt = config["prompt"] | {"name": item.key, "source": item.source, "target": item.target}
            own = config | {"image": str(item.image), "prompt": prompt}
            place = folder / "runs" / file_name(variant)
            runs += seeded(variant, 1.0, case, own, place, seeds, chosen.measured, shares)
    return runs


def edit_picture(
    run: Run, load: Callable[[], DiffusionPrior], stop: Callable[[], bool]
) -> NonFiniteError | None:
    """Edit, measure and write one picture; returns what ended the edit early.

    It is edited at the prior's resolution and compared there; for Stable Diffusion 1.5 that is the benchmark's own.
    """
    item = run.case.picture
    assert item is not None
    cfg, prior = recalled(run.config), load()
    cfg.size = prior.resolution
    if prior.takes_image:
        cfg.prompt.target = instruction(item).replace("${", "\\${")
    edit = image_edit(cfg, prior=prior)
    trouble = pull(edit, stop)
    result = edit.finish()
    result.save(run.folder, config=run.config)
    device = prior.device
    before, after = result.before.to(device), result.after.to(device)
    measure = _meter(str(device), **run.measured)
    values: dict[str, Any] = measure(before, after, fit_mask(item.mask, *after.shape[1:3]), item.target)
    steps = max(edit.step, 1)
    values |= {
        "steps_done": edit.step,
        "error": None if trouble is None else str(trouble),
        "resolution": prior.resolution,
        "seconds": result.seconds,
        "seconds_per_step": result.seconds / steps,
        "evaluations": sum(report.evaluations for report in edit.reports),
        "evaluations_per_step": sum(report.evaluations for report in edit.reports) / steps,
    }
    write_json(values, run.folder / "metrics.json")
    return trouble


@lru_cache(maxsize=1)
def _meter(device: str, *, clip: str | None, structure: str | None, lpips: bool, compat: bool) -> PieMetrics:
    """The measures, loaded once for all of a process's runs."""
    return PieMetrics(
        clip=clip,
        structure=structure,
        lpips=Lpips(device=torch.device(device)) if lpips else None,
        compat=compat,
        device=device,
    )


def instruction(item: PieItem) -> str:
    """What a prior that takes an image is told to do with the picture. Raises UserError."""
    if item.instruction is None:
        raise UserError(
            f"entry {item.key} has no editing_instruction, which a prior that takes an image edits by; "
            "add it, or choose another diffusion"
        )
    return item.instruction


def with_an_edit(items: Sequence[PieItem]) -> tuple[list[PieItem], list[str]]:
    """The items whose prompts differ by more than case, and a note on the others, if any.

    Raises UserError where no item's do.
    """
    same = [item.key for item in items if item.source.lower() == item.target.lower()]
    if len(same) == len(items):
        raise UserError(
            f"entry {same[0]}: editing_prompt equals original_prompt, so there is nothing to edit, as in all entries"
        )
    note = f"Left out, because editing_prompt equals original_prompt: {', '.join(same)}."
    return [item for item in items if item.key not in same], [note] * bool(same)


def spread(items: Sequence[Any], limit: int | None) -> list[Any]:
    """`limit` items, evenly spread; all of them if there are fewer or `limit` is None."""
    if limit is not None and limit < 1:
        raise UserError(f"limit={limit} must be a whole number of at least 1, or null for all images")
    count = min(limit or len(items), len(items))
    return [items[i * len(items) // count] for i in range(count)]


def fit_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """The mask at another size [height, width], bool: a pixel may change where any of those it came from may."""
    area = F.adaptive_avg_pool2d(mask[None, None].float(), (height, width))
    return area[0, 0] > 0


def measures(cfg: DictConfig) -> dict[str, Any]:
    """How PIE-Bench is measured, and on how many pictures; raises UserError for values that can't be."""
    asked, known = cfg.pie_bench, ("limit", *PUBLISHED, "compat")
    if not isinstance(asked, DictConfig) or set(asked) != set(known):
        raise UserError(f"pie_bench={asked} is not {', '.join(known)}, which experiment=table2 has")
    if asked.limit is not None:
        whole("pie_bench.limit", asked.limit, least=1)
    for name in ("lpips", "compat"):
        if asked[name] not in ("auto", True, False):
            raise UserError(f"pie_bench.{name}={asked[name]} is none of auto, true, false")
    auto = OFFLINE if cfg.data is None else PUBLISHED
    how = {str(name): auto.get(str(name)) if value == "auto" else value for name, value in asked.items()}
    if asked.compat == "auto":
        how["compat"] = how["structure"] == PUBLISHED["structure"]
    return how


def check_use(cfg: DictConfig, compared: Mapping[str, Sequence[str]], common: Sequence[str]) -> None:
    """Raise UserError for what a 2D experiment would ignore."""
    defaults = OmegaConf.load(CONFIGS / "evaluate" / "evaluate.yaml")
    assert isinstance(defaults, DictConfig)
    for name in ONLY_3D:
        if cfg[name] != defaults[name]:
            raise UserError(
                f"{name}={cfg[name]} is for 3D; a 2D experiment edits its benchmark's pictures one by one"
            )
    for setting in common:
        name = re.split(r"[.=]", setting.lstrip("+~"))[0]
        if name not in USED:
            raise UserError(f"{setting} is of no use in a 2D experiment, which takes: {', '.join(USED)}")
    for variant, settings in compared.items():
        if bad := [s for s in settings if not re.match(r"\+*(guidance|timesteps)[.=]", s)]:
            raise UserError(
                f"variant {variant} sets {bad[0]}; in 2D a variant can only set its guidance and its timesteps"
            )


def _notes(data: Any, measured: Mapping[str, Any]) -> list[str]:
    """What keeps our rows from being comparable with the published ones."""
    notes = []
    if data is None:
        notes.append("The published rows are of 700 photographs and paintings, ours of rendered heads.")
    if measured["clip"] is None or measured["structure"] is None:
        notes.append(
            f'"judge" columns come from {JUDGE.parent.name}/{JUDGE.name}, which knows rendered heads only.'
        )
    return notes
