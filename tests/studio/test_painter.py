"""Which picture goes to which browser."""

import threading

from gs_ssd.studio.painter import Painter
from tests.studio.small import workspace
from tests.waiting import PATIENCE


def test_a_picture_that_nobody_took_is_sent_again(tmp_path):
    """A browser's camera may speak before its server lists it."""
    offered, taken = [], threading.Event()

    def send(client, picture, full):
        offered.append(client)
        if len(offered) > 1:
            taken.set()
        return len(offered) > 1

    painter = Painter(workspace(tmp_path), send)
    try:
        painter.place(7, position=(0.0, 0.0, -4.0), wxyz=(1.0, 0.0, 0.0, 0.0), fov=0.7, width=64, height=64)
        assert taken.wait(PATIENCE)
        assert offered[:2] == [7, 7]
    finally:
        painter.close()
