"""The page in a real browser: what a person sees and presses."""

import io
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from gs_ssd.cli.studio import StudioSettings, open_studio

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SOFTWARE = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
SECONDS = 180  # for anything, on a busy machine too


@pytest.fixture
def page():
    if BROWSER is None:
        pytest.skip("no Chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=BROWSER, args=SOFTWARE)
        yield browser.new_page(viewport={"width": 1000, "height": 600})
        browser.close()


def picture(page) -> np.ndarray:
    """What the page shows of the scene, beside the panel and below what pops up."""
    shot = page.screenshot(timeout=SECONDS * 1000, clip={"x": 0, "y": 200, "width": 600, "height": 400})
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"), dtype=float)


def wait_for(condition) -> None:
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.5)


@pytest.mark.slow
def test_a_person_opens_edits_and_undoes(page, tmp_path):
    words = ["scene=face", "prompt=joker", "diffusion=embedded", "steps=20", "device=cpu"]
    studio = open_studio(StudioSettings(port=0, output_dir=str(tmp_path)), words)
    try:
        page.goto(studio.url, timeout=SECONDS * 1000)
        start = page.get_by_text("Start the edit")
        start.wait_for(timeout=SECONDS * 1000)
        wait_for(lambda: picture(page).std() > 20)  # not an empty page: a head before a grey studio
        time.sleep(2)
        before = picture(page)
        start.click(timeout=SECONDS * 1000)
        wait_for(lambda: "edited 20 of 20 steps" in page.inner_text("body"))
        wait_for(lambda: np.abs(picture(page) - before).mean() > 2)
        page.get_by_text("Undo").first.click(timeout=SECONDS * 1000)
        wait_for(lambda: np.abs(picture(page) - before).mean() < 0.5)
        assert len(studio.workspace.scene) > 38_000 and studio.workspace.status().position == 0
    finally:
        studio.close()
