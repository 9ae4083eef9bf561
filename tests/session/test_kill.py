"""A run that is killed at random moments, twenty times over, ends in the bytes of one that wasn't."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gs_ssd.session.checkpoints import load_checkpoint
from tests.session import small

STEPS = 200
# Every line on its stdin begins a life: a process that goes on with the edit. It imports once what all of them need.
LIVES = """
import os, sys, torch
torch.set_num_threads(1)
from pathlib import Path
from gs_ssd.session.checkpoints import Keeper, NAME
from gs_ssd.session.edit import SceneEdit
from tests.session import small
folder, steps = Path(sys.argv[1]), int(sys.argv[2])
given = {"scene": small.scene(), "prior": small.prior()}

def live():
    print(os.getpid(), flush=True)
    edit = SceneEdit.resume(folder, **given) if (folder / NAME).exists() else small.edit(steps)
    keeper = Keeper(folder, every=1)
    begun = False
    for report in edit:
        keeper.keep(edit.state_dict(), edit.about())
        if not begun:
            print("ready", flush=True)  # what is compiled or loaded at first takes longer than all that follows
        begun = True
    print("done", flush=True)

for _ in sys.stdin:
    child = os.fork()
    if not child:
        live()
        os._exit(0)
    os.waitpid(child, 0)
    print("over", flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks processes")
def test_twenty_kills_cost_nothing(tmp_path):
    torch.set_num_threads(1)
    whole = small.edit(STEPS)
    list(whole)
    moments = random.Random(0)
    kills, seen, done = 0, set(), False
    lives = subprocess.Popen(
        [sys.executable, "-c", LIVES, str(tmp_path), str(STEPS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    while not done:
        lives.stdin.write("\n")
        lives.stdin.flush()
        child = int(lives.stdout.readline())
        assert lives.stdout.readline() == "ready\n"
        if kills < 20:
            time.sleep(moments.uniform(0, 0.12))
            os.kill(child, signal.SIGKILL)
            kills += 1
        if (said := lives.stdout.readline()) != "over\n":
            assert said == "done\n" and lives.stdout.readline() == "over\n"
            done = True
        seen.add(len(load_checkpoint(tmp_path)[0]["reports"]))  # whole, whenever the kill came
    lives.communicate()
    assert kills == 20 and len(seen) > 3
    state = load_checkpoint(tmp_path)[0]["canvas"]["scene"]["params"]
    for name, value in whole.trainable.params.items():
        assert torch.equal(state[name], value), name
