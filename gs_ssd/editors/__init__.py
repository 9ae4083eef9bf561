"""2D editors: a picture becomes another by walking the prior's noise levels; one editor per file."""

from gs_ssd.editors.base import Editor, Move, Task
from gs_ssd.editors.ddim_inversion import DDIMInversion
from gs_ssd.editors.flowedit import FlowEdit
from gs_ssd.editors.instruct_pix2pix import InstructPix2Pix
from gs_ssd.editors.sdedit import SDEdit

__all__ = ["DDIMInversion", "Editor", "FlowEdit", "InstructPix2Pix", "Move", "SDEdit", "Task"]
