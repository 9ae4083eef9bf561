"""What may change: regions with gizmos, clicks and strokes, parts, the prior, words, files; and how they combine."""

from __future__ import annotations

import threading
from typing import Any

import viser

from gs_ssd.errors import UserError
from gs_ssd.scene.masks import File, Flood, Mask, Prior, Sphere, Text
from gs_ssd.scene.parts import PARTS
from gs_ssd.studio.panels.brush import Brush
from gs_ssd.studio.panels.panel import Panel, put
from gs_ssd.studio.picking import surface_point
from gs_ssd.studio.selection import Rectangle, turned_box
from gs_ssd.studio.status import Status
from gs_ssd.studio.stroke import Stroke
from gs_ssd.studio.uploads import forget, saved

TOOLS = (
    "Choose a tool",
    "Sphere",
    "Box",
    "Click: same colour",
    "Brush",
    "Parts",
    "Prior",
    "Words",
    "File",
)
MODES = ("Replace", "Add", "Subtract", "Intersect")
_FILES = (".npy", ".pt", ".pth", ".ply")


class SelectPanel(Panel):
    def build(self) -> None:
        gui, call, workspace = self.gui, self.page.call, self.workspace
        self._tool = gui.add_dropdown("Tool", TOOLS, initial_value=TOOLS[0])
        self._tool.on_update(call(lambda event: self._chosen()))
        self._mode = gui.add_button_group(
            "Mode: replace", MODES, hint="how what a tool selects joins what is selected"
        )
        self._mode.on_click(call(lambda event: self._put_mode(self._mode.value)))
        self._radius = gui.add_slider("Radius", 0.01, 1.5, 0.01, 0.5, hint="shares of the object's radius")
        self._tip = gui.add_slider("Tip", 0.01, 0.5, 0.01, 0.1, hint="the brush's radius, in object radii")
        self._turn = gui.add_checkbox("Turn the view", False, hint="a drag turns the view and does not paint")
        self._turn.on_update(call(lambda event: self._switch_brush()))
        self._sides = [gui.add_slider(f"Side {axis}", 0.02, 3.0, 0.02, 0.8) for axis in "xyz"]
        self._colour = gui.add_slider("Colour", 0.01, 1.0, 0.01, 0.15, hint="how far the colour may differ")
        self._reach = gui.add_slider(
            "Reach", 0.0, 0.2, 0.002, 0.0, hint="largest gap, in object radii; 0 finds it"
        )
        self._parts = gui.add_dropdown("Part", PARTS, initial_value="hair")
        self._words = gui.add_text("Words", "the hair")
        self._model = gui.add_text(
            "Model", "CIDAS/clipseg-rd64-refined", hint="CLIPSeg or SAM 3: name or folder"
        )
        self._about = gui.add_markdown("")
        self._apply = gui.add_button("Select", icon=viser.Icon.LASSO)
        self._apply.on_click(call(lambda event: self._apply_tool()))
        self._files = gui.add_folder("From this computer", visible=False)  # upload buttons can't be hidden
        with self._files:
            self._file = gui.add_upload_button("Open a selection", icon=viser.Icon.UPLOAD)
        self._file.on_upload(call(self._opened_file))
        with gui.add_folder("All of it", expand_by_default=True):
            whole = gui.add_button_group("Take", ("Everything", "Nothing", "Inverse"))
            whole.on_click(call(lambda event: self._whole(whole.value)))
            self._by = gui.add_slider("By", 0.005, 0.3, 0.005, 0.04, hint="shares of the object's radius")
            resize = gui.add_button_group("Edge", ("Grow", "Shrink"))
            resize.on_click(call(lambda event: self._resize(resize.value)))
            steps = gui.add_button_group("Steps", ("Undo", "Redo"))
            steps.on_click(
                call(
                    lambda event: {"Undo": workspace.selector.undo, "Redo": workspace.selector.redo}[
                        steps.value
                    ]()
                )
            )
        self._gizmo: Any = None
        self._shape: Any = None
        self._lock = threading.Lock()
        self._clicks = False
        self._brush = Brush(self.page, self._begin_stroke, self._ended_stroke)
        for handle in (self._radius, *self._sides):
            handle.on_update(call(lambda event: self._reshape()))

    # Which controls belong to a tool

    def _chosen(self) -> None:
        tool = self._tool.value
        put(self._radius, visible=tool == "Sphere")
        put(self._tip, visible=tool == "Brush")
        put(self._turn, visible=tool == "Brush", value=False)
        for side in self._sides:
            put(side, visible=tool == "Box")
        put(self._colour, visible=tool == "Click: same colour")
        put(self._reach, visible=tool == "Click: same colour")
        put(self._parts, visible=tool == "Parts")
        put(self._words, visible=tool == "Words")
        put(self._model, visible=tool == "Words")
        put(self._files, visible=tool == "File")
        put(self._apply, visible=tool in ("Sphere", "Box", "Parts", "Prior", "Words"))
        put(self._about, content=ABOUT[tool])
        self._region(tool)
        self._listen(tool in ("Brush", "Click: same colour"))
        self._switch_brush()
        if tool != TOOLS[0]:
            self.page.progress.tint()

    @property
    def _nodes(self) -> Any:
        """What viser shows in front of the picture."""
        return self.page.studio.viser.scene

    @property
    def mode(self) -> str:
        return self._mode.value.lower()

    def _put_mode(self, mode: str) -> None:
        put(self._mode, value=mode, label=f"Mode: {mode.lower()}")

    # Regions

    def _region(self, tool: str) -> None:
        """The gizmo of a region in the scene, or none."""
        with self._lock:
            for handle in (self._shape, self._gizmo):
                if handle is not None:
                    handle.remove()
            self._gizmo = self._shape = None
            if tool not in ("Sphere", "Box"):
                return
            frame, scene = self.workspace.scene.frame, self._nodes
            self._gizmo = scene.add_transform_controls(
                "/region",
                scale=0.7 * frame.radius,
                position=frame.center.numpy(),
                disable_rotations=tool == "Sphere",
                depth_test=False,
            )
        self._reshape()

    def _reshape(self) -> None:
        with self._lock:
            if self._gizmo is None:
                return
            radius, scene = self.workspace.scene.frame.radius, self._nodes
            look: dict[str, Any] = {"color": (20, 50, 140), "wireframe": True}
            if self._tool.value == "Sphere":
                self._shape = scene.add_icosphere(
                    "/region/shape", radius=self._radius.value * radius, subdivisions=2, **look
                )
            else:
                sides = tuple(side.value * radius for side in self._sides)
                self._shape = scene.add_box("/region/shape", dimensions=sides, **look)

    def _mask(self) -> Mask:
        """The mask that the controls describe."""
        tool, radius = self._tool.value, self.workspace.scene.frame.radius
        if tool == "Sphere":
            return Sphere(tuple(self._gizmo.position), self._radius.value * radius)
        if tool == "Box":
            sides = [side.value * radius for side in self._sides]
            return turned_box(self._gizmo.position, sides, self._gizmo.wxyz)
        return Text(self._words.value, model=self._model.value)

    def _apply_tool(self) -> None:
        if self._tool.value == "Prior":
            self.workspace.select_by_prior(Prior(), self.page.edit.settings(), self.mode)
        elif self._tool.value == "Parts":
            self.workspace.select_part(self._parts.value, self.mode)
        else:
            self.workspace.selector.apply(self._mask(), self.mode)
        self.page.progress.tint()

    # Clicks

    def _listen(self, on: bool) -> None:
        scene = self._nodes
        if on and not self._clicks:
            scene.on_click()(self.page.call(self._clicked))
            scene.on_rect_select(modifier="shift")(self.page.call(self._drawn))
        elif not on and self._clicks:
            scene.remove_click_callback()
            scene.remove_rect_select_callback()
        self._clicks = on

    def _clicked(self, event: Any) -> None:
        if self._tool.value == "Brush":
            stroke = self._begin_stroke(event.client_id)
            stroke.to(*event.screen_pos)
            stroke.end()
            self._ended_stroke()
            return
        scene = self.workspace.scene
        point = surface_point(scene, self._camera(event.client_id), *event.screen_pos)
        distance = self._reach.value * scene.frame.radius or None
        self.workspace.selector.apply(Flood(None, point, distance, self._colour.value), self.mode)
        self.page.progress.tint()

    def _switch_brush(self) -> None:
        self._brush.switch(self._tool.value == "Brush" and not self._turn.value)

    def _begin_stroke(self, client_id: int) -> Stroke:
        self.page.progress.tint()
        return Stroke(self.workspace.selector, self._camera(client_id), self._tip.value, self.mode)

    def _ended_stroke(self) -> None:
        """The next stroke adds to this one; it would take its place, and nobody paints like that."""
        if self.mode == "replace":
            self._put_mode("Add")

    def _drawn(self, event: Any) -> None:
        drawn = Rectangle(self._camera(event.client_id), event.screen_min, event.screen_max)
        self.workspace.selector.apply(drawn, self.mode)
        self.page.progress.tint()

    def _camera(self, client_id: int) -> Any:
        camera = self.page.studio.camera(client_id)
        if camera is None:
            raise UserError("the view is not known yet; turn it a little and try again")
        return camera

    # The rest

    def _whole(self, what: str) -> None:
        selector = self.workspace.selector
        {"Everything": selector.everything, "Nothing": selector.nothing, "Inverse": selector.invert}[what]()
        self.page.progress.tint()

    def _resize(self, what: str) -> None:
        selector = self.workspace.selector
        (selector.grow if what == "Grow" else selector.shrink)(self._by.value)
        self.page.progress.tint()

    def _opened_file(self, event: Any) -> None:
        file = self._file.value
        path = saved(self.workspace.session, file.name, file.content, _FILES)
        forget(self._file)
        self.workspace.selector.apply(File(path), self.mode)
        self.page.progress.tint()

    def opened(self) -> None:
        tools = tuple(tool for tool in TOOLS if tool != "Parts" or self.workspace.has_parts)
        put(self._tool, options=tools, value=TOOLS[0])
        self._chosen()

    def refresh(self, status: Status) -> None:
        put(self._apply, disabled=bool(status.busy))
        if self._gizmo is not None:
            put(self._gizmo, visible=not status.running)


ABOUT = {
    "Choose a tool": "Only what is selected will change.",
    "Sphere": "Move the sphere with its arrows, then press Select.",
    "Box": "Move and turn the box, then press Select.",
    "Click: same colour": "Click on the object: its neighbours of the same colour are taken. Shift and drag draws a "
    "rectangle.",
    "Brush": "Drag over the object to paint. Alt and drag turns the view, Shift and drag draws a rectangle.",
    "Parts": "The parts that the sample scenes know.",
    "Prior": "Where the prior itself would change the picture for the prompts; takes seconds.",
    "Words": "A segmentation model looks for the words; it is downloaded once.",
    "File": "Indices or booleans (.npy, .pt), or a crop of this scene (.ply).",
}
