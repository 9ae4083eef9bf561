"""View-dependent text (Poole et al., DreamFusion, ICLR 2023): the target prompt says where the camera stands.

Without it every view asks for the same picture, and a generated head grows a face on every side.
"""

from __future__ import annotations

from collections.abc import Mapping

from gs_ssd.diffusion.prior import DiffusionPrior
from gs_ssd.diffusion.text import TextCondition
from gs_ssd.guidance import encode_prompts
from gs_ssd.scene.cameras import Cameras
from gs_ssd.scene.frame import SceneFrame
from gs_ssd.scene.views import azimuths

FRONT, SIDE, BEHIND = 25.0, (65.0, 115.0), 135.0  # degrees from the front; between them no words fit


def side_of(azimuth: float) -> str | None:
    """ "front", "side", "back" or None for an azimuth in degrees, 0 = the front."""
    turn = abs((azimuth + 180) % 360 - 180)
    if turn < FRONT:
        return "front"
    if turn > BEHIND:
        return "back"
    return "side" if SIDE[0] < turn < SIDE[1] else None


class ViewPrompts:
    """The conditions of each camera: `words[side]` is appended to the target prompt.

    Args:
        target, source, negative: the prompts.
        words: what "front", "side" and "back" add to the target, such as ", front view".
        frame: the scene's, with `front_azimuth_degrees` of its views.
    """

    def __init__(
        self,
        prior: DiffusionPrior,
        *,
        target: str,
        source: str,
        negative: str,
        words: Mapping[str, str],
        frame: SceneFrame,
        front_azimuth_degrees: float = 0.0,
    ) -> None:
        self.plain = encode_prompts(prior, target=target, source=source, negative=negative)
        self.targets: dict[str | None, TextCondition] = {None: self.plain["target"]}
        self.targets |= dict(
            zip(words, prior.encode_prompt([target + added for added in words.values()]).split())
        )
        self.frame, self.front = frame, front_azimuth_degrees

    def __call__(self, cameras: Cameras) -> dict[str, TextCondition]:
        """With a target condition of C prompts for C cameras."""
        sides = [side_of(a - self.front) for a in azimuths(self.frame, cameras.positions).tolist()]
        target = TextCondition.cat([self.targets.get(side, self.targets[None]) for side in sides])
        return self.plain | {"target": target}
