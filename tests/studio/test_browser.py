"""The page in a real browser: what a person sees and presses."""

from __future__ import annotations

import io
import shutil
import time

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("viser", reason="the studio needs viser")

from gs_ssd.scene import load_gaussians
from gs_ssd.studio.gate import Gate
from gs_ssd.studio.painter import REST
from gs_ssd.studio.server import Studio
from gs_ssd.studio.workspace import Workspace
from tests.studio.small import SETTINGS, workspace
from tests.waiting import PATIENCE, until

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SOFTWARE = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


@pytest.fixture
def open_page():
    """Opens an address in a new browser, started with the given flags."""
    if BROWSER is None:
        pytest.skip("no Chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as player:

        def opened(url: str, *flags: str, width: int = 1100, height: int = 700):
            browser = player.chromium.launch(
                executable_path=BROWSER, args=[*(flags or SOFTWARE)], timeout=PATIENCE * 1000
            )
            page = browser.new_page(viewport={"width": width, "height": height}, accept_downloads=True)
            page.set_default_timeout(PATIENCE * 1000)
            page.goto(url, wait_until="commit")  # a page without WebGL never ends to load
            return page

        yield opened


@pytest.fixture
def studio(tmp_path):
    studio = Studio(workspace(tmp_path), Gate("127.0.0.1", 0), started=SETTINGS, upload_mb=1)
    yield studio
    studio.close()


def picture(page, top: int = 340) -> np.ndarray:
    """What the page shows of the scene, beside the panel and below what pops up."""
    shot = page.screenshot(clip={"x": 60, "y": top, "width": 560, "height": 690 - top})
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"), dtype=float)


def is_drawn(studio: Studio) -> bool:
    """Whether every browser was sent the full picture of what there is to see now."""
    painter = studio.painter
    views = list(painter._views.values())
    rest = time.perf_counter() - REST
    content = painter._content(painter.look)
    return bool(views) and all(
        view.moved < rest
        and view.sent == (content, view.position, view.wxyz, view.fov, view.width, view.height, False)
        for view in views
    )


def settled(page, studio: Studio, condition=lambda shown: True, top: int = 340) -> np.ndarray:
    """The page's picture as soon as the full one was sent, it fulfils `condition` and stays as it is."""
    last, end = None, time.monotonic() + PATIENCE
    while True:
        until(lambda: is_drawn(studio))
        shown = picture(page, top)
        if last is not None and np.abs(shown - last).mean() < 0.05 and condition(shown):
            return shown
        assert time.monotonic() < end
        last = shown
        time.sleep(0.5)


def tab(page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


def box(page, label: str):
    """The input beside a label that is in sight."""
    row = (
        f"xpath=//label[normalize-space()='{label}']/ancestor::div[contains(@class,'mantine-Flex')][1]//input"
    )
    return page.locator(row).locator("visible=true").last


def heard(studio: Studio, label: str) -> list[str]:
    """What the studio takes its controls of that label to say."""
    controls = list(studio.viser.gui._gui_input_handle_from_uuid.values())
    values = [control.value for control in controls if getattr(control, "label", None) == label]
    return [str(value).removesuffix(".0") for value in values]


def fill(page, studio: Studio, label: str, words: str) -> None:
    """Write into a box; the next change must wait, as viser's page forgets one that another follows within 50 ms."""
    box(page, label).fill(words)
    until(lambda: words in heard(studio, label))


def choose(page, label: str, option: str) -> None:
    box(page, label).click()
    page.get_by_role("option", name=option, exact=True).click()


def choose_file(page, studio: Studio, label: str, file) -> None:
    """Give the upload button of that label a file, a path or its name and content."""
    controls = studio.viser.gui._gui_input_handle_from_uuid.values()
    (button,) = [each for each in list(controls) if getattr(each, "label", None) == label]
    page.locator(f"[id='file_upload_{button._impl.uuid}']").set_input_files(file)


def press(page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).locator("visible=true").first.click()


def far(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).mean())


@pytest.mark.slow
def test_a_person_selects_edits_blends_undoes_exports_and_opens_the_export(open_page, studio, tmp_path):
    page, space = open_page(studio.url), studio.workspace
    page.get_by_text(
        "Start the edit"
    ).wait_for()  # Chromium takes no screenshot of a page that it hasn't drawn
    before = settled(page, studio, lambda shown: shown.std() > 5)  # splats, not an empty page

    tab(page, "Select")
    choose(page, "Tool", "Sphere")
    press(page, "Select")
    until(lambda: 0 < space.selection.count < len(space.scene))
    assert far(settled(page, studio, lambda shown: far(shown, before) > 1), before) > 1  # in colour
    choose(page, "Tool", "Choose a tool")

    tab(page, "Edit")
    fill(page, studio, "Make it", "red")
    fill(page, studio, "Steps", "30")
    press(page, "Start the edit")
    until(lambda: "edited 30 of 30 steps" in page.inner_text("body"), every=0.5)

    def redder(shown: np.ndarray) -> bool:
        return far(shown, before) > 1 and (shown - before)[..., 0].mean() > (shown - before)[..., 2].mean()

    after = settled(page, studio, redder)
    assert not page.get_by_role(
        "checkbox"
    ).first.is_checked()  # the selection's colour made way for the edit's

    press(page, "Before")
    settled(page, studio, lambda shown: far(shown, before) < 0.5)
    press(page, "Split")
    split = settled(page, studio, lambda shown: 0.5 < far(shown, after) < far(before, after))
    third = split.shape[1] // 3
    assert far(split[:, :third], before[:, :third]) < 1
    assert far(split[:, -third:], after[:, -third:]) < 1
    press(page, "Edit")
    settled(page, studio, lambda shown: far(shown, after) < 0.5)

    tab(page, "Result")
    fill(page, studio, "Strength", "0.5")
    until(lambda: space.status().strength == 0.5)
    half = settled(page, studio, lambda shown: far(shown, after) > 0.3)
    assert 0 < far(half, before) < far(after, before)
    with page.expect_download() as coming:
        press(page, "Download")
    exported = tmp_path / "exported.ply"
    coming.value.save_as(exported)
    assert len(load_gaussians(exported)) == len(space.scene)

    press(page, "Undo")
    settled(page, studio, lambda shown: far(shown, before) < 0.5)
    press(page, "Redo")
    settled(page, studio, lambda shown: far(shown, half) < 0.5)

    tab(page, "Scene")
    choose_file(page, studio, "Open a file", exported)
    until(lambda: space.scene.name == "exported")
    settled(page, studio, lambda shown: shown.std() > 5)
    assert len(space.scene) == len(load_gaussians(exported))


@pytest.mark.slow
def test_a_broken_and_a_large_file_are_one_line_and_the_scene_stays(open_page, studio):
    page, scene = open_page(studio.url), studio.workspace.scene
    tab(page, "Scene")
    for name, content, said in (
        ("broken.ply", b"ply\nformat binary_little_endian 1.0\nelement vertex 7\n", "broken.ply"),
        ("large.ply", bytes(1_100_000), "large.ply: not taken: 1 MB are more than the 1 MB"),
        ("notes.txt", b"hello", "a file of an unknown kind"),
    ):
        choose_file(page, studio, "Open a file", {"name": name, "mimeType": "", "buffer": content})
        until(lambda said=said: said in page.inner_text(".gs-said"))
        assert "\n" not in page.inner_text(".gs-said").strip()
    assert studio.workspace.scene is scene


def drag(page, start: tuple[int, int], end: tuple[int, int]) -> None:
    """Press at one place of the page, move to another, and hold."""
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=12)


@pytest.mark.slow
def test_a_person_paints_with_the_brush_and_turns_the_view_without_it(open_page, studio):
    page, space = open_page(studio.url), studio.workspace
    page.get_by_text("Start the edit").wait_for()
    before = settled(page, studio, lambda shown: shown.std() > 5)
    whole = space.selection
    (eye,) = [view.position for view in studio.painter._views.values()]

    tab(page, "Select")
    choose(page, "Tool", "Brush")
    tinted = settled(page, studio, lambda shown: far(shown, before) > 1)
    drag(page, (270, 400), (330, 330))
    until(lambda: space.selection is not whole)
    begun = space.selection.count
    page.mouse.move(400, 400, steps=12)
    until(lambda: space.selection.count > begun)  # it grows while the button is held
    settled(page, studio, lambda shown: far(shown, tinted) > 1)  # and is seen
    page.mouse.up()
    until(lambda: "Mode: add" in page.inner_text("body"))
    first = space.selection
    assert 0 < first.count < whole.count

    drag(page, (330, 450), (390, 450))
    page.mouse.up()
    until(lambda: space.selection is not first and not studio.page.select._brush._strokes)
    second = space.selection
    assert bool(second.chosen[first.chosen].all()) and second.count > first.count
    assert [view.position for view in studio.painter._views.values()] == [eye]  # the view stood still

    for expected in (first, whole):
        page.get_by_role("button", name="Undo", exact=True).last.click()
        until(lambda expected=expected: space.selection is expected)

    def turned() -> bool:
        """A drag turned the view and painted nothing; the first may come before the page has heard what the tool is."""
        (eye,), kept = [view.position for view in studio.painter._views.values()], space.selection
        drag(page, (300, 400), (360, 380))
        page.mouse.up()
        time.sleep(0.3)
        return [view.position for view in studio.painter._views.values()] != [eye] and space.selection is kept

    page.keyboard.down("Alt")
    until(turned)
    page.keyboard.up("Alt")
    choose(page, "Tool", "Choose a tool")
    until(turned)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the gaussian prior doesn't know. told:UserWarning")
def test_the_boxes_show_what_an_edit_was_started_with(open_page, studio):
    page, space = open_page(studio.url), studio.workspace
    page.get_by_text("Start the edit").wait_for()
    page.evaluate(
        """([first, second]) => {
            const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set;
            for (const [field, value] of [[first, "seen"], [second, "never told"], [first, "told"]]) {
                set.call(field, value);
                field.dispatchEvent(new Event("input", {bubbles: true}));
            }
        }""",
        [box(page, "It shows").element_handle(), box(page, "Make it").element_handle()],
    )
    assert box(page, "Make it").input_value() == "never told"
    until(lambda: "told" in heard(studio, "It shows"))
    press(page, "Start the edit")
    until(lambda: not space.status().running and space.entries, every=0.1)
    assert space.entries[0].settings.source == "told" and space.entries[0].settings.target == SETTINGS.target
    until(lambda: box(page, "Make it").input_value() == SETTINGS.target)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the gaussian prior doesn't know. kraken:UserWarning")
def test_what_is_asked_for_in_vain_is_one_line_each_and_nothing_is_lost(open_page, studio):
    page, space = open_page(studio.url), studio.workspace
    scene, selection = space.scene, space.selection
    page.get_by_text("Start the edit").wait_for()

    def said(words: str) -> None:
        until(lambda: words in page.inner_text(".gs-said"))
        assert "\n" not in page.inner_text(".gs-said").strip()
        assert space.scene is scene and not space.status().running

    tab(page, "Select")
    choose(page, "Tool", "File")
    other = io.BytesIO()
    np.save(other, np.ones(999, bool))
    upload = {"name": "other.npy", "mimeType": "", "buffer": other.getvalue()}
    choose_file(page, studio, "Open a selection", upload)
    said("it belongs to another scene")
    choose(page, "Tool", "Sphere")
    fill(page, studio, "Radius", "0.01")
    press(page, "Select")
    said("holds no Gaussian")
    assert space.selection is selection
    press(page, "Everything")
    said("nothing is protected")
    press(page, "Nothing")
    until(lambda: not space.selection.count)
    tab(page, "Edit")
    press(page, "Start the edit")
    said("the selection is empty, so nothing may change")
    tab(page, "Select")
    press(page, "Inverse")
    until(lambda: space.selection.count == len(scene))

    tab(page, "Edit")
    fill(page, studio, "Make it", "red kraken")
    fill(page, studio, "Steps", "100000")
    press(page, "Start the edit")
    until(lambda: "doesn't know: kraken" in page.inner_text(".gs-said"))
    until(lambda: page.get_by_role("button", name="Start the edit").is_disabled())  # once at a time
    until(lambda: space.status().step > 2)
    press(page, "Stop")
    until(lambda: "of 100000 steps" in page.inner_text(".gs-said"))
    press(page, "Undo")
    until(lambda: space.scene is scene)


@pytest.mark.slow
def test_the_embedded_prior_edits_the_hair_that_was_asked_for(open_page, tmp_path):
    """The shipped prior and scene: what a newcomer does first."""
    space = Workspace(["scene=face"], folder=tmp_path, device="cpu")
    studio = Studio(space, Gate("127.0.0.1", 0))
    try:
        page = open_page(studio.url)
        page.get_by_text("Start the edit").wait_for()

        def whole(condition) -> np.ndarray:
            """The whole head, while nothing lies over it."""
            over = page.locator(".mantine-Notification-root").locator("visible=true")
            shown = None
            while shown is None or over.count():  # it may pop up meanwhile
                until(lambda: not over.count())
                shown = settled(page, studio, condition, top=10)
            return shown

        before = whole(lambda shown: shown.std() > 5)
        tab(page, "Select")
        choose(page, "Tool", "Parts")
        press(page, "Select")
        until(lambda: space.selection.made_by == "replace: parts")
        tab(page, "Edit")
        choose(page, "Ready-made", "red_hair")
        until(lambda: box(page, "Make it").input_value() == space.targets["red_hair"])
        fill(page, studio, "Steps", "30")
        press(page, "Start the edit")
        until(lambda: "edited 30 of 30 steps" in page.inner_text("body"), every=0.5)
        after = whole(lambda shown: far(shown, before) > 0.5)
    finally:
        studio.close()
    change = after - before
    changed = np.abs(change).max(axis=-1) > 12
    assert 0.005 < changed.mean() < 0.5  # the hair, and not the wall
    assert change[changed][:, 0].mean() > change[changed][:, 2].mean() + 5  # redder
    source = space.entries[0].source
    assert 0 < int(source.editable.sum()) < len(source) // 2
    assert torch.equal(
        source.gaussians.sh0[~source.editable], space.scene.gaussians.sh0[~space.scene.editable]
    )


@pytest.mark.slow
def test_a_browser_without_webgl_is_told_so_in_one_line(open_page, studio):
    page = open_page(studio.url, "--no-sandbox", "--disable-gpu", "--disable-3d-apis")
    page.locator("#gs-ssd-no-webgl").wait_for()
    said = page.locator("body").inner_text()
    assert "no WebGL 2, which the studio needs" in said and len(said.strip().splitlines()) == 1


@pytest.mark.slow
def test_on_a_small_screen_the_controls_stand_below_the_picture(open_page, studio):
    page = open_page(studio.url, width=390, height=844)
    page.get_by_text("Start the edit").wait_for()

    def box_of(found: str) -> dict[str, float]:
        return page.locator(found).bounding_box()

    def controls() -> dict[str, float]:
        return box_of('[style*="max-height: 60%"]')

    def stands_below() -> bool:
        """The controls take their room first, and the picture gives way a moment later."""
        canvas, sheet = box_of("canvas >> nth=0"), controls()
        return (
            canvas["y"] + canvas["height"] <= sheet["y"] + 1
            and canvas["height"] > 0.5 * 844
            and sheet["width"] == 390
            and sheet["y"] + sheet["height"] == pytest.approx(844)
        )

    def not_over_the_picture() -> bool:
        """What pops up slides in."""
        above, sheet = box_of(pops), controls()
        return above["y"] >= sheet["y"] - 1 and above["y"] + above["height"] <= 844

    until(stands_below, every=0.1)
    for number in range(6):
        studio.workspace.say("warning", f"line {number} of what pops up")
    pops = '.mantine-Notifications-root[data-position="top-left"]'
    until(lambda: "line 5 of" in page.inner_text(pops) and not_over_the_picture(), every=0.1)
    assert stands_below()  # and it stays
    page.get_by_text("gs_ssd studio").click()  # folds the controls
    until(lambda: box_of("canvas >> nth=0")["height"] > 0.9 * 844, every=0.1)
