"""Edit the pictures of PIE-Bench with each guidance, measure the edits, set the means beside the published ones.

<output_dir>/<guidance>/<key>.png, .json    an edit, and the seconds and steps it took; what exists isn't redone
<output_dir>/settings.json                  what the edits depend on
<output_dir>/results.json, results.md, grid.png
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from gs_ssd.assets import DATA
from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.diffusion.timesteps import TimestepSampler
from gs_ssd.edit.image import LATENT_RATE
from gs_ssd.errors import NonFiniteError, UserError
from gs_ssd.evaluation.pie_bench import CATEGORIES, PieItem, load_pie_bench
from gs_ssd.evaluation.pie_metrics import COLUMNS, JUDGE, PieMetrics
from gs_ssd.evaluation.pie_report import markdown, means
from gs_ssd.files import atomic_path
from gs_ssd.guidance import Guidance
from gs_ssd.metrics.lpips import Lpips
from gs_ssd.results.image_files import load_image, save_image
from gs_ssd.results.manifest import write_json
from gs_ssd.results.pictures import contact_sheet
from gs_ssd.session.image import ImageEdit
from gs_ssd.session.prompts import Prompts

EMBEDDED = DATA / "pie_bench"
GRID_ROWS, GRID_SIDE = 16, 192


def evaluate_pie_bench(
    data: str | Path | None,
    guidances: Mapping[str, Callable[[], Guidance]],
    *,
    prior: DiffusionPrior,
    timesteps: TimestepSampler,
    output_dir: str | Path,
    limit: int | None = None,
    steps: int = 200,
    rate: float | None = None,
    seed: int = 0,
    clip: str | None = None,
    structure: str | None = None,
    lpips: bool = False,
    compat: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Edit, measure, write and print; one row of unscaled measures per picture and guidance.

    A run that was interrupted goes on where it stopped when it is called again. Pictures are edited at the prior's
    resolution and compared there; for Stable Diffusion 1.5 that is the benchmark's own.

    Args:
        data: a PIE-Bench v1 folder; None: the embedded one, of the sample scenes.
        guidances: how to make each method anew, by name: some learn while they edit.
        limit: at most this many pictures, evenly spread over those whose prompts differ; None: all.
        rate: step size of gradient descent on the latents; None: LATENT_RATE.
        clip, structure: folder or hub name of the CLIP model and of the ViT (facebook/dino-vitb8); None: the judge.
        lpips: measure LPIPS; where it can't be had its column stays empty and a line says what is missing.
        compat: the published structure distance's habit of feeding 0-255.
        settings: what else the edits depend on, by name; a later run may add names but not change them.

    Raises UserError for bad data, models that can't be had, and an output folder with edits from other settings.
    """
    folder, source = Path(output_dir).expanduser(), Path(data).expanduser() if data else EMBEDDED
    if not guidances:
        raise UserError("no guidance to evaluate; name some, such as guidances=[ssd,dds]")
    items, left_out = with_an_edit(load_pie_bench(source))
    items = spread(items, limit)
    edit = Editor(prior, timesteps, steps=steps, rate=rate or LATENT_RATE, seed=seed)
    for make in guidances.values():
        make().prepare(prior)
    for item in items:
        edit.text(item)  # is it there? Before anything is edited
    _check_settings(
        folder,
        {"data": str(source.resolve()), "prior": prior.name, "resolution": prior.resolution}
        | {"steps": steps, "rate": edit.rate, "seed": seed}
        | dict(settings or {}),
    )
    for note in left_out:
        print(f"warning: {note}", file=sys.stderr)
    notes = [*left_out, *_notes(data, prior, clip, structure)]
    device, distance = prior.encode_prompt([""]).hidden.device, None
    if lpips:
        try:
            distance = Lpips(device=device)
        except UserError as error:
            notes.append(f"No LPIPS: {error}.")
            print(f"warning: no LPIPS: {error}", file=sys.stderr)
    try:
        measure = PieMetrics(clip=clip, structure=structure, lpips=distance, compat=compat, device=device)
    except UserError as error:
        raise UserError(
            f"{error}; pie_bench.clip=null and pie_bench.structure=null measure with the judge"
        ) from error

    rows = []
    jobs = [(name, make, item) for name, make in guidances.items() for item in items]
    for name, make, item in tqdm(jobs, desc="edits", unit="image"):
        done = _edited(folder / name, item, partial(edit, make, item))
        before = load_image(item.image, factor=prior.vae_scale_factor, size=prior.resolution)
        after = load_image(folder / name / f"{item.key}.png")
        values = measure(before, after, fit_mask(item.mask, *after.shape[1:3]), item.target)
        about = {"guidance": name, "key": item.key, "category": item.category, "target": item.target}
        rows.append(about | values | done)
    _write(folder, rows, items, list(guidances), source, prior, notes)
    return rows


class Editor:
    """Edits a picture's latents by gradient descent, each picture from the same seed."""

    def __init__(
        self, prior: DiffusionPrior, timesteps: TimestepSampler, *, steps: int, rate: float, seed: int
    ) -> None:
        self.prior, self.timesteps = prior, timesteps
        self.steps, self.rate, self.seed = steps, rate, seed

    def text(self, item: PieItem) -> str:
        """What the prior is to make of the picture: an instruction where it takes an image. Raises UserError."""
        if not self.prior.takes_image:
            return item.target
        if item.instruction is None:
            raise UserError(
                f"entry {item.key} has no editing_instruction, which a prior that takes an image edits by; "
                "add it, or choose another diffusion"
            )
        return item.instruction

    def __call__(self, make: Callable[[], Guidance], item: PieItem) -> tuple[Tensor, dict[str, Any]]:
        """The edited picture [1, H, W, 3], and the steps it took and what ended them early."""
        guidance = make()
        edit = ImageEdit(
            load_image(item.image, factor=self.prior.vae_scale_factor, size=self.prior.resolution),
            Prompts(item.source, self.text(item)),
            prior=self.prior,
            guidance=guidance,
            timesteps=self.timesteps,
            rate=self.rate,
            num_steps=self.steps,
            seed=self.seed,
        )
        trouble = None
        try:
            for _ in edit:
                pass
        except NonFiniteError as error:
            trouble = str(error)
            tqdm.write(f"warning: {item.key}: {trouble}; the result is that so far")
        return edit.picture, {"steps_done": edit.step, "error": trouble}


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


def spread(items: Sequence[PieItem], limit: int | None) -> list[PieItem]:
    """`limit` items, evenly spread; all of them if there are fewer or `limit` is None."""
    if limit is not None and limit < 1:
        raise UserError(f"limit={limit} must be a whole number of at least 1, or null for all images")
    count = min(limit or len(items), len(items))
    return [items[i * len(items) // count] for i in range(count)]


def fit_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """The mask at another size [height, width], bool: a pixel may change where any of those it came from may."""
    area = F.adaptive_avg_pool2d(mask[None, None].float(), (height, width))
    return area[0, 0] > 0


def _edited(folder: Path, item: PieItem, edit: Callable[[], tuple[Tensor, dict[str, Any]]]) -> dict[str, Any]:
    """Make the item's edit unless it is there; the picture comes first, its .json says that it is whole."""
    path = folder / f"{item.key}.json"
    if not path.is_file():
        started = time.perf_counter()
        picture, done = edit()
        save_image(picture[0].cpu(), path.with_suffix(".png"))
        write_json(done | {"seconds": time.perf_counter() - started}, path)
    return json.loads(path.read_text())


def _check_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Keep the settings in the folder; raise UserError when it holds edits from other ones."""
    path = folder / "settings.json"
    settings = json.loads(json.dumps(settings, default=str))
    if path.is_file():
        known = json.loads(path.read_text())
        changed = [name for name in settings if name in known and known[name] != settings[name]]
        if changed:
            raise UserError(
                f"{folder} holds edits with another {', '.join(changed)}; choose another output_dir, or remove it"
            )
        settings = known | settings
    write_json(settings, path)


def _notes(
    data: str | Path | None, prior: DiffusionPrior, clip: str | None, structure: str | None
) -> list[str]:
    """What keeps our rows from being comparable with the published ones."""
    notes = []
    if data is None:
        notes.append("The published rows are of 700 photographs and paintings, ours of rendered heads.")
    if prior.resolution != 512:
        notes.append(f"Ours are edited and compared at {prior.resolution} pixels, the published at 512.")
    if clip is None or structure is None:
        notes.append(
            f'"judge" columns come from {JUDGE.parent.name}/{JUDGE.name}, which knows rendered heads only.'
        )
    return notes


def _write(
    folder: Path,
    rows: Sequence[dict[str, Any]],
    items: Sequence[PieItem],
    guidances: Sequence[str],
    source: Path,
    prior: DiffusionPrior,
    notes: Sequence[str],
) -> None:
    own = {g: [row for row in rows if row["guidance"] == g] for g in guidances}
    content = {
        "scales": {name: column.scale for name, column in COLUMNS.items()},
        "means": {g: means(own[g]) for g in guidances},
        "by_category": {
            g: {
                name: means(part)
                for i, name in enumerate(CATEGORIES)
                if (part := [row for row in own[g] if row["category"] == i])
            }
            for g in guidances
        },
        "rows": list(rows),
    }
    write_json(content, folder / "results.json")
    report = markdown(rows, data=f"{source.name}, {len(items)} pictures, {prior.name} prior", notes=notes)
    with atomic_path(folder / "results.md") as temporary:
        temporary.write_text(report)
    sheet = []
    for item in spread(items, GRID_ROWS):
        pictures = [load_image(item.image, size=GRID_SIDE)]
        pictures += [load_image(folder / g / f"{item.key}.png", size=GRID_SIDE) for g in guidances]
        sheet.append((f"{item.target}: source, {', '.join(guidances)}", torch.cat(pictures)))
    contact_sheet(sheet, folder / "grid.png")
    print(f"{report}\nwritten to {folder}: results.json, results.md, grid.png")
