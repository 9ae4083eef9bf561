"""Run scenes × prompts × methods and put their metrics side by side.

    python scripts/evaluate.py experiment=embedded_benchmark
    python scripts/evaluate.py guidances=[ssd,dds] scenes=[face] overrides=[steps=300]

Writes results.json, results.md and a grid of pictures per method; the runs themselves lie beside them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from statistics import fmean

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig
from PIL import Image
from tqdm import tqdm

import train
from gs_ssd.command_line import expand
from gs_ssd.files import atomic_path
from gs_ssd.hydra_app import report_user_errors
from gs_ssd.output.manifest import write_json
from gs_ssd.paths import CONFIGS

COLUMNS = {
    "retrieval_top1": "retrieval ↑",
    "clip_similarity": "CLIP sim ↑",
    "clip_direction": "direction ↑",
    "background_psnr": "background dB ↑",
    "seconds": "seconds",
    "seconds_per_step": "s/step",
}


def evaluate(cfg: DictConfig) -> int:
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder = Path(cfg.output_dir or Path("outputs") / "evaluate" / stamp)
    jobs = [(g, s, p) for g in cfg.guidances for s in cfg.scenes for p in cfg.prompts]
    rows = []
    for guidance, scene, prompt in tqdm(jobs, desc="runs", unit="run"):
        run_folder = folder / guidance / scene / prompt
        choice = [f"scene={scene}", f"prompt={prompt}", f"guidance={guidance}", "no_edit_guard=false"]
        overrides = expand([*choice, *cfg.overrides, f"output_dir={run_folder}"], cuda=False)
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            run_cfg = compose("train", overrides=overrides)
        train.run(run_cfg)
        metrics = json.loads((run_folder / "metrics.json").read_text())
        rows.append({"guidance": guidance, "scene": scene, "prompt": prompt} | metrics)
        write_json({"rows": rows}, folder / "results.json")
    for guidance in cfg.guidances:
        grid([folder / guidance / s / p / "before_after.png" for s in cfg.scenes for p in cfg.prompts],
             folder / f"{guidance}.png")  # fmt: skip
    report = markdown(rows, cfg.guidances, cfg.prompts)
    with atomic_path(folder / "results.md") as temporary:
        temporary.write_text(report)
    print(f"{report}\nwritten to {folder}: results.json, results.md, a grid of pictures per method")
    return 0


def mean(rows: Sequence[dict], column: str) -> str:
    values = [row[column] for row in rows if row[column] is not None]
    return f"{fmean(values):.3f}" if values else "-"


def markdown(rows: Sequence[dict], guidances: Sequence[str], prompts: Sequence[str]) -> str:
    """One table of methods, then one of prompts per method."""
    lines = ["| method | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for guidance in guidances:
        own = [row for row in rows if row["guidance"] == guidance]
        lines.append(f"| {guidance} | " + " | ".join(mean(own, c) for c in COLUMNS) + " |")
    for guidance in guidances:
        lines += ["", f"{guidance} by prompt (mean over scenes):", ""]
        lines += ["| prompt | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
        for prompt in prompts:
            own = [row for row in rows if row["guidance"] == guidance and row["prompt"] == prompt]
            lines.append(f"| {prompt} | " + " | ".join(mean(own, c) for c in COLUMNS) + " |")
    return "\n".join(lines) + "\n"


def grid(pictures: Sequence[Path], path: Path) -> None:
    """The runs' contact sheets below each other."""
    sheets = [Image.open(picture) for picture in pictures]
    page = Image.new("RGB", (max(s.width for s in sheets), sum(s.height for s in sheets)), "white")
    top = 0
    for sheet in sheets:
        page.paste(sheet, (0, top))
        top += sheet.height
    with atomic_path(path) as temporary:
        page.save(temporary)


@hydra.main(version_base="1.3", config_path=str(CONFIGS / "evaluate"), config_name="evaluate")
def main(cfg: DictConfig) -> None:
    code = report_user_errors(lambda: evaluate(cfg))
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()
