"""A run that is killed at random moments, twenty times over, ends in the bytes of one that wasn't."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gs_ssd.session.checkpoints import NAME, load_checkpoint
from tests.session import small

STEPS = 200
CHILD = """
import sys, torch
torch.set_num_threads(1)
from pathlib import Path
from gs_ssd.session.checkpoints import Keeper, NAME
from gs_ssd.session.edit import SceneEdit
from tests.session import small
folder = Path(sys.argv[1])
given = {"scene": small.scene(), "prior": small.prior()}
edit = SceneEdit.resume(folder, **given) if (folder / NAME).exists() else small.edit(int(sys.argv[2]))
keeper = Keeper(folder, every=1)
begun = False
for report in edit:
    keeper.keep(edit.state_dict(), edit.about())
    if not begun:
        print("ready", flush=True)  # what is compiled or loaded at first takes longer than all that follows
    begun = True
print("done", flush=True)
"""


@pytest.mark.slow
def test_twenty_kills_cost_nothing(tmp_path):
    torch.set_num_threads(1)
    whole = small.edit(STEPS)
    list(whole)
    moments = random.Random(0)
    kills, seen = 0, set()
    while True:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), str(STEPS)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        if kills < 20:
            time.sleep(moments.uniform(0, 0.12))
            child.send_signal(signal.SIGKILL)
            kills += 1
        said = child.stdout.read()
        child.wait()
        if (tmp_path / NAME).exists():
            seen.add(len(load_checkpoint(tmp_path)[0]["reports"]))  # whole, whenever the kill came
        if said == "done\n":
            break
    assert kills == 20 and len(seen) > 3
    state = load_checkpoint(tmp_path)[0]["canvas"]["scene"]["params"]
    for name, value in whole.trainable.params.items():
        assert torch.equal(state[name], value), name
