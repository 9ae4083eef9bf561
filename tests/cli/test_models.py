"""docs/models.md, run: every model of the list edits `face` from the command line, every method where it says so."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import pytest
import torch

from gs_ssd import Scene
from gs_ssd.assets import ROOT
from gs_ssd.cli.main import main
from gs_ssd.diffusion.load import load_prior
from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.diffusion.tiny import MINIATURES, save_miniature, tiny_parts
from gs_ssd.errors import UserError
from gs_ssd.guidance import Guidance
from gs_ssd.render import compile_kernels
from gs_ssd.scene import load_gaussians
from gs_ssd.session.config import build, compose
from tests.diffusion.test_adapters import save_lora
from tests.diffusion.test_controlnet import save_controlnet
from tests.diffusion.test_families import PRIORS

PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
SHORT = ["steps=5", "device=cpu", "no_edit_guard=false", "render.frames=1", "render.size=64"]
JUDGED = ["metrics.clip=null", "metrics.views=2", "metrics.size=64"]


def table(heading: str) -> list[dict[str, str]]:
    """The rows of the first table below a heading of the page."""
    below = PAGE.partition(f"## {heading}\n")[2]
    lines = re.search(r"((?:^\|.*\n)+)", below, re.MULTILINE)[1].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(cells[0], row)) for row in cells[2:]]


TRIED = {
    row["model"]: (row["miniature"].strip("`"), row["with"].strip("`")) for row in table("What has been run")
}


def test_the_page_names_every_miniature():
    assert {name for name, _ in TRIED.values()} == {*MINIATURES, "dreambooth"}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """Every miniature as a folder, and what is put beside one: LoRAs and a ControlNet."""
    compile_kernels()
    root = tmp_path_factory.mktemp("models")
    for name in MINIATURES:
        save_miniature(name, root / name)
    for name, part in tiny_parts(seed=1).items():  # as trainers leave it, without a model_index.json
        part.save_pretrained(root / "dreambooth" / name)
    for name in ("lora", "lcm-lora"):
        save_lora("tiny", root / name)
    save_controlnet(load_prior("tiny", device="cpu"), root / "controlnet")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("model", TRIED)
def test_it_edits_the_face_for_five_steps(model, models, tmp_path, capsys):
    name, settings = TRIED[model]
    typed = [word.replace("<", f"{models}/").replace(">", "") for word in settings.split()]
    folder = f"diffusion={models / name}"
    command = ["edit", "scene=face", "prompt=spiderman", folder, *typed, *SHORT, *JUDGED]
    assert main([*command, f"output_dir={tmp_path}"]) == 0, capsys.readouterr().err
    before, after = Scene.sample("face").gaussians, load_gaussians(tmp_path / "edited.ply")
    assert bool(after.sh0.isfinite().all()) and not torch.equal(before.sh0, after.sh0)
    manifest = json.loads((tmp_path / "run.json").read_text())
    assert manifest["steps_done"] == 5 and manifest["prior"]["name"] == str(models / name)


COLUMNS = {
    "sd15, sd21": ("sd", "sd_v"),
    "ip2p": ("ip2p",),
    "sdxl": ("sdxl",),
    "sd35": ("sd3", "sd3_t5"),
    "flux2 (base), z_image": ("flux2", "z_image"),
    "pixart": ("pixart",),
    "flux": ("flux",),
    "turbo, lcm": ("sd_turbo", "sdxl_turbo", "lcm"),
}
CONDITION = {
    "with s = 1": "guidance.s=1",
    "cds with score.s = 1": "guidance.score.s=1",
    "with w_a = w_b (the default)": "",
}


@pytest.mark.parametrize("row", table("Which method runs on which model"), ids=lambda row: row[""])
def test_a_method_runs_where_the_page_says(row):
    """As configured, by the method's own check of a miniature; `tests/diffusion/test_families.py` runs them."""
    assert row.keys() == {"", *COLUMNS}
    for column, families in COLUMNS.items():
        cell = row[column]
        for family in families:
            prior = PRIORS[family]
            for method in row[""].split(", "):
                if not cell.startswith(("yes", "no")):
                    if cell.startswith("cds ") and method != "cds":
                        assert not fits(method, prior)
                        continue
                    assert fits(method, prior, CONDITION[cell])
                    assert fits(method, prior) == (CONDITION[cell] == "")
                else:
                    assert fits(method, prior) == cell.startswith("yes"), (method, family)


@cache
def guidance(method: str, setting: str) -> Guidance:
    cfg = compose([f"guidance={method}", "prompt=clown", "diffusion=tiny", *[setting] * bool(setting)])
    return build(cfg, "guidance")


def fits(method: str, prior: DiffusionPrior, setting: str = "") -> bool:
    """Whether a method as configured, but for one setting, runs on a prior; if not, it says so in one line."""
    try:
        guidance(method, setting).prepare(prior)
    except UserError as error:
        assert "\n" not in str(error) and prior.name in str(error)
        return False
    return True
