"""The report: one file that needs no network, says what happened, and shows the scene as the renderer does."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import re
import shutil
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gs_ssd.edit.loop import StepReport
from gs_ssd.errors import UserError
from gs_ssd.render import Render, render
from gs_ssd.results.contact_page import runs_since, write_contact_sheet
from gs_ssd.results.curves import curve_svg
from gs_ssd.results.page import command_line, figure
from gs_ssd.results.report import LARGEST, READINGS, write_scene_html
from gs_ssd.results.scene import Videos, write
from gs_ssd.results.splats import RECORD, Stand, pack
from gs_ssd.scene import Gaussians, find_frame
from gs_ssd.scene.views import turntable
from tests.synthetic import random_gaussians
from tests.waiting import PATIENCE, until

GREY = torch.tensor([0.2, 0.4, 0.6])
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = '</script><img src=x onerror="document.title=1">{{ 7*7 }}'
REPORTS = [StepReport(i, 900 - i, 10.0 + i, 0.0, 2, 300) for i in range(30)]


def ball(seed: int = 0, count: int = 300) -> Gaussians:
    return random_gaussians(count, sh_degree=0, seed=seed)


def results(folder: Path, before: Gaussians, after: Gaussians, **more) -> str:
    settings = {"frames": 8, "size": 64, "sheet_views": 2, "sheet_size": 32} | more.pop("render", {})
    write(
        folder,
        before=before,
        after=after,
        videos=Videos.around(find_frame(before), **settings),
        **{"renderer": partial(render, background=GREY), "reports": REPORTS, "labels": ("a ball", "a cube")}
        | more,
    )
    return (folder / "report.html").read_text()


class Page(HTMLParser):
    """The addresses that a page loads or links, its tags, and its text outside scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.words = ""
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.inside = tag
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href") and value]

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.words += data


def test_it_is_one_file_that_needs_no_network(tmp_path):
    page = Page(results(tmp_path, ball(), ball(1)))
    loaded = [address for address in page.addresses if not address.startswith("data:")]
    assert set(loaded) <= {path.name for path in tmp_path.iterdir()} | {"run.json"}
    assert len([a for a in page.addresses if a.startswith("data:image")]) == 8
    assert len([a for a in page.addresses if a.startswith("data:video")]) == 1
    assert "http" not in re.sub(r'"data:[^"]*"', "", (tmp_path / "report.html").read_text())


def test_it_says_what_was_done(tmp_path):
    metrics = {"clip_direction": 0.25, "unedited_psnr_by_part": {"hair": 41.5}, "background_psnr": None}
    manifest = {
        "command": ["/x/train.py", "scene=face", "prompt.target='a red cube'"],
        "config": {"seed": 7, "guidance": {"_target_": "gs_ssd.guidance.ssd.SSD", "s": 7.5}},
        "seconds": {"set_up": 1.0, "edit": 3.0},
        "seconds_by_phase": {"render": 2.0, "prior": 1.0},
        "environment": {"packages": {"torch": "2.13"}},
    }
    words = Page(results(tmp_path, ball(), ball(1), metrics=lambda: metrics, manifest=lambda: manifest)).words
    for expected in (
        *(
            "a ball",
            "a cube",
            "SSD",
            "0.25",
            READINGS["clip_direction"],
            "unedited_psnr: hair",
            "41.5",
            "s7.5",
        ),
        *("python train.py scene=face 'prompt.target=a red cube'", "guidance", "packages.torch", "3.0 s"),
        *("Score loss", "Timestep t", "set up", "edited.ply", "cameras.json"),
    ):
        assert expected in words, expected
    assert "background_psnr" not in words
    assert json.loads((tmp_path / "run.json").read_text())["change"]["pixels"] > 0


def test_it_shows_the_edits_before_it(tmp_path):
    """The first one first, each with its words and command; a report that is still there is linked."""
    (tmp_path / "first & best").mkdir()
    (tmp_path / "first & best" / "report.html").write_text("x")
    links = [
        {
            "run": str(tmp_path / "first & best"),
            "prompts": {"source": "a man", "target": "a clown"},
            "command": ["/x/gs-ssd", "edit", "prompt=clown"],
            "sha256": "0",
        },
        {
            "run": "/gone",
            "prompts": {"source": "a clown", "target": "a <king>"},
            "command": None,
            "sha256": "1",
        },
    ]
    page = Page(results(tmp_path / "second", ball(), ball(1), manifest=lambda: {"earlier_edits": links}))
    assert "gs-ssd edit prompt=clown" in page.words and "a clown → a <king>" in page.words
    assert page.words.index("a man → a clown") < page.words.index("a clown → a <king>")
    assert "../first%20%26%20best/report.html" in page.addresses
    assert not [address for address in page.addresses if "gone" in address]
    assert "Before this edit" not in results(tmp_path / "alone", ball(), ball(1))


def test_words_of_the_user_stay_words(tmp_path):
    manifest = {"command": ["train.py", HOSTILE], "config": {HOSTILE: HOSTILE, "prompt": {HOSTILE: HOSTILE}}}
    before = results(
        tmp_path / "a", ball(), ball(1), manifest=lambda: {"config": {"x": "y", "prompt": {"z": "w"}}}
    )
    text = results(tmp_path / "b", ball(), ball(1), labels=(HOSTILE, HOSTILE), manifest=lambda: manifest)
    assert HOSTILE not in text and "{{ 7*7 }}" in text
    assert Page(text).tags.count("script") == Page(before).tags.count("script")
    assert Page(text).tags.count("img") == Page(before).tags.count("img")


@pytest.mark.parametrize("reports", [[], REPORTS[:1]])
def test_a_run_without_steps_has_a_report(reports, tmp_path):
    text = results(tmp_path, ball(), ball(), reports=reports)
    assert "next to nothing" in text if reports else "before its first step" in text
    assert "<svg" not in text


@pytest.mark.slow
def test_a_large_run_stays_below_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr("gs_ssd.results.report._VIDEO", 600_000)
    large = random_gaussians(300_000, sh_degree=0)
    noise = torch.rand(256, 256, 3, generator=torch.Generator().manual_seed(0))

    def noisy(gaussians, cameras):
        picture = torch.roll(noise, int(1000 * cameras.viewmats[0, 0, 0]), dims=1)
        return Render(picture[None, : cameras.height, : cameras.width], noise, None, {})

    text = results(tmp_path, large, large, renderer=noisy, render={"size": 256, "frames": 20})
    assert (tmp_path / "turntable.mp4").stat().st_size > 600_000
    assert len(text.encode()) < LARGEST
    assert "Of 300,000 Gaussians, the" in text and len(re.search(r"data:video/mp4[^\"]*", text)[0]) < 810_000


def test_every_view_is_rendered_once(tmp_path):
    seen = []

    def counting(gaussians, cameras):
        seen.append((id(gaussians), cameras.width, cameras.viewmats.numpy().tobytes()))
        return render(gaussians, cameras, background=GREY)

    before, after = ball(), ball(1)
    videos = Videos.around(find_frame(before), frames=8, size=32, sheet_views=8, sheet_size=32)
    write(
        tmp_path, before=before, after=after, renderer=counting, videos=videos, reports=[], labels=("a", "b")
    )
    assert len(seen) == len(set(seen)) == 2 * 8 + 1  # and one for the colour of the background


def test_packing_keeps_what_is_seen():
    gaussians = ball()
    cameras = turntable(find_frame(gaussians), 8, size=64)
    stand = Stand.of_orbit(cameras, (0.0, 0.0, 0.0))
    frame = find_frame(gaussians)
    assert torch.allclose(stand.center.float(), frame.center, atol=1e-4)
    assert torch.allclose(stand.up.float(), frame.up, atol=1e-4)
    assert math.degrees(stand.elevation) == pytest.approx(10, abs=0.01)
    assert math.degrees(stand.fov) == pytest.approx(45, abs=0.01)
    records = np.frombuffer(base64.b64decode(pack(gaussians, stand, limit=1000)), RECORD)
    means = torch.from_numpy(records["mean"].copy()) * stand.distance + stand.center.float()
    assert torch.allclose(means, gaussians.means, atol=1e-5)
    assert np.abs(records["rgba"][:, :3] / 255 - gaussians.rgb.numpy()).max() < 0.003
    few = np.frombuffer(base64.b64decode(pack(gaussians, stand, limit=50)), RECORD)
    assert len(few) == 50 and few["rgba"][:, 3].mean() > records["rgba"][:, 3].mean()


def test_a_scene_a_million_units_away_packs_as_one_at_home():
    gaussians = ball()
    far = replace(gaussians, means=gaussians.means.double() + 1e6)
    stands = []
    for scene, offset in ((gaussians, 0.0), (far, 1e6)):
        stand = Stand.of_orbit(turntable(find_frame(gaussians), 8, size=64), (0.0, 0.0, 0.0))
        stands.append(pack(scene, replace(stand, center=stand.center + offset), limit=1000))
    one, two = (np.frombuffer(base64.b64decode(text), RECORD)["mean"] for text in stands)
    assert np.abs(one - two).max() < 1e-6


def test_cameras_without_a_common_centre_still_give_a_stand():
    cameras = turntable(find_frame(ball()), 8, size=64)[0]
    stand = Stand.of_orbit(cameras, (0.0, 0.0, 0.0))
    assert all(torch.isfinite(v).all() for v in (stand.center, stand.up, stand.front)) and stand.distance > 0


@pytest.mark.parametrize(
    "values, options",
    [
        ([1.0, 2.0, 3.0], {}),
        ([5.0, 5.0], {}),
        ([0.0, 0.0], {"log": True}),
        ([1e-9, 1e9], {"log": True}),
        ([1.0, float("nan"), 2.0], {}),
        (list(np.geomspace(1, 9, 5000)), {"log": True, "smooth": True}),
        ([float("inf")], {}),
    ],
)
def test_curves_of_any_values(values, options):
    svg = curve_svg(range(len(values)), values, **options)
    assert "nan" not in svg.replace("no finite values", "") and "inf" not in svg.replace("no finite", "")
    assert len(svg) < 40_000
    numbers = [float(y) for _, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", svg)]
    assert all(0 <= y <= 170 for y in numbers)


def test_a_thinned_curve_keeps_its_spikes():
    values = [1.0] * 5000
    values[1234] = 100.0
    path = re.search(r'class="trend" d="([^"]*)"', curve_svg(range(5000), values))[1]
    assert min(float(y) for _, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path)) < 30


def test_figures_and_commands():
    assert [figure(v) for v in (0.12345, 41.26, 12345, 1, None)] == ["0.123", "41.3", "12,345", "1", "–"]
    assert command_line(["/a/b/gs-ssd", "edit", "scene=a b.ply"]) == "gs-ssd edit 'scene=a b.ply'"
    assert command_line(["scripts/edit_image.py", "image='it'"]) == "python scripts/edit_image.py image=it"
    assert command_line(["train.py", "x='1'"]) == "python train.py 'x='\"'\"'1'\"'\"''"
    assert command_line(["/a/gs_ssd/cli/main.py", "edit", "steps=3"]) == "gs-ssd edit steps=3"
    assert command_line(["/a/gs_ssd/cli/edit.py", "steps=3"]) == "gs-ssd edit steps=3"
    assert command_line([]) is None is command_line(None)


def test_a_contact_sheet_links_every_run(tmp_path):
    runs = [tmp_path / "sweep" / f"run {i} ü" for i in range(3)]
    for i, run in enumerate(runs[:2]):
        config = {"seed": i, "steps": 30, "output_dir": str(run), "scene": {"name": "ball"}}
        results(
            run,
            ball(),
            ball(1),
            manifest=lambda config=config: {"config": config},
            metrics=lambda i=i: {"clip_direction": 0.1 * i},
        )
    (runs[1] / "before_after.mp4").write_bytes(b"cut short")
    page = write_contact_sheet(tmp_path / "sweep", runs)
    text = page.read_text()
    links = [address for address in Page(text).addresses if not address.startswith("data:")]
    assert links == ["run%200%20%C3%BC/report.html", "run%201%20%C3%BC/report.html"]
    words = Page(text).words
    assert "seed=0" in words and "seed=1" in words and "output_dir" not in words and "steps=" not in words
    assert "it failed or was stopped" in words and "clip_direction" in words
    assert Page(text).tags.count("img") == 1  # of the second, the video is broken


def test_a_contact_sheet_of_nothing_is_refused(tmp_path):
    with pytest.raises(UserError, match="no runs to show"):
        write_contact_sheet(tmp_path, [])


def test_a_contact_sheet_beside_its_runs_links_upwards(tmp_path):
    results(tmp_path / "a" / "run", ball(), ball(1), manifest=lambda: {"config": {}})
    page = write_contact_sheet(tmp_path / "pages", [tmp_path / "a" / "run"], title=HOSTILE)
    assert "../a/run/report.html" in Page(page.read_text()).addresses
    assert HOSTILE not in page.read_text()


def test_the_runs_of_a_sweep_are_found_where_it_wrote_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = Path("outputs")
    assert runs_since(root, 0) == []
    for place, ended in (("face/b", 300), ("face/a", 200), ("old", 100)):
        (root / place).mkdir(parents=True)
        (root / place / "run.json").write_text("{}")
        os.utime(root / place / "run.json", (ended, ended))
    assert runs_since(root, 150) == [root / "face/a", root / "face/b"]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    flags = "--no-sandbox --use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader"
    with playwright.sync_playwright() as started:
        launch = partial(started.chromium.launch, executable_path=CHROMIUM, timeout=1000 * PATIENCE)
        yield launch, flags.split()


def far(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).mean())


def canvas_pixels(page) -> np.ndarray:
    """[H, W, 3] in [0, 1] of what the 3D view shows now."""
    page.wait_for_function("document.querySelector('.viewer').dataset.drawn >= 1")
    image = Image.open(io.BytesIO(page.locator("canvas").screenshot())).convert("RGB")
    return np.asarray(image, dtype=np.float64) / 255


@pytest.mark.slow
@pytest.mark.parametrize("antialiased", [False, True])
def test_the_page_shows_what_the_renderer_shows(browser, antialiased, tmp_path):
    launch, flags = browser
    gaussians = replace(ball(count=2000), antialiased=antialiased)
    cameras = turntable(find_frame(gaussians), 8, size=256)
    stand = Stand.of_orbit(cameras, tuple(GREY.tolist()))
    assert write_scene_html(gaussians, tmp_path / "scene.html", stand=stand) == 2000
    chromium = launch(args=flags)
    page = chromium.new_page(viewport={"width": 256, "height": 256})
    page.set_default_timeout(1000 * PATIENCE)
    page.goto((tmp_path / "scene.html").as_uri())
    expected = render(gaussians, cameras[0], background=GREY).rgb[0].clamp(0, 1).numpy()
    empty = np.abs(expected - GREY.numpy()).mean()
    assert empty > 0.05
    until(lambda: np.abs(canvas_pixels(page) - expected).mean() < 0.01, every=0.2)
    chromium.close()


@pytest.mark.slow
def test_the_page_works_with_and_without_webgl(browser, tmp_path):
    launch, flags = browser
    results(tmp_path, ball(), ball(1))
    errors = []
    chromium = launch(args=flags)
    page = chromium.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(1000 * PATIENCE)
    page.on("pageerror", lambda error: errors.append(error))
    page.on("request", lambda request: errors.append(request.url) if request.url[:4] == "http" else None)
    page.goto((tmp_path / "report.html").as_uri())
    shown = [canvas_pixels(page)]

    def still() -> bool:
        shown.append(canvas_pixels(page))
        return far(shown[-1], shown[-2]) == 0

    until(still, every=0.5)
    both = shown[-1]
    half = both.shape[1] // 2 - 10
    page.get_by_role("button", name="Before").click()

    def on_the_left_alone(shown: np.ndarray) -> bool:
        """As both beside each other were."""
        return far(shown[:, :half], both[:, :half]) < 0.005 < far(shown[:, half + 20 :], both[:, half + 20 :])

    until(lambda: on_the_left_alone(canvas_pixels(page)), every=0.2)
    page.locator(".pair input").first.fill("20")
    assert page.locator(".pair").first.evaluate("pair => pair.style.getPropertyValue('--at')") == "20%"
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 844})
        until(lambda width=width: page.evaluate("document.documentElement.scrollWidth") <= width)
    chromium.close()
    chromium = launch(args=["--no-sandbox", "--disable-gpu", "--disable-3d-apis"])
    page = chromium.new_page()
    page.set_default_timeout(1000 * PATIENCE)
    page.on("pageerror", lambda error: errors.append(error))
    page.goto((tmp_path / "report.html").as_uri())
    assert "no WebGL 2" in page.locator(".say").text_content()
    chromium.close()
    assert errors == []
