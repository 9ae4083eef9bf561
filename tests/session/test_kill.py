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
# The line says how many kills are still to come; that many steps before the end a life waits for its own, so that none
# is over too early, however fast the machine is or late the kill.
LIVES = """
import os, signal, sys, torch
torch.set_num_threads(1)
from pathlib import Path
from gs_ssd.session.checkpoints import Keeper, NAME
from gs_ssd.session.edit import SceneEdit
from tests.session import small
folder, steps = Path(sys.argv[1]), int(sys.argv[2])
given = {"scene": small.scene(), "prior": small.prior()}

def live(kills):
    print(os.getpid(), flush=True)
    edit = SceneEdit.resume(folder, **given) if (folder / NAME).exists() else small.edit(steps)
    keeper = Keeper(folder, every=1)
    begun = False
    for report in edit:
        keeper.keep(edit.state_dict(), edit.about())
        if not begun:
            print("ready", flush=True)  # what is compiled or loaded at first takes longer than all that follows
        begun = True
        if kills and edit.step >= steps - kills:
            signal.pause()
    print("done", flush=True)

for kills in sys.stdin:
    child = os.fork()
    if not child:
        live(int(kills))
        os._exit(0)
    os.waitpid(child, 0)
    print("over", flush=True)
"""


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks processes")
def test_twenty_kills_cost_nothing(one_thread, tmp_path):
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
        lives.stdin.write(f"{20 - kills}\n")
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
