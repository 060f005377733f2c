"""kill -9 at random moments: the weights are those of a training that was left alone."""

import random
import signal
import subprocess
import sys
import time

import pytest

from phalanx.models import checkpoint

SCRIPT = """
import os, sys
os.environ["OMP_NUM_THREADS"] = "1"
from phalanx.training import loop
from phalanx.training.shelf import load_recipe
from phalanx.training.trainer import train

if __name__ == "__main__":
    loop.SAVE_SECONDS = 0.05
    changes = ["model.options.hidden=[16]", "members=2", "epochs={epochs}"]
    recipe = load_recipe("digits-gaussian", changes)
    train(recipe, out=sys.argv[1], workers=int(sys.argv[2]), watch=lambda event: print(flush=True))
"""
EPOCHS = 12


def start(tmp_path, out, workers):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(epochs=EPOCHS))
    return subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / out), str(workers)], stdout=subprocess.PIPE
    )


def finish(process):
    process.communicate(timeout=200)
    assert process.returncode == 0


def digests(folder):
    return [checkpoint.load(folder / "weights" / f"member-{m}").card.digest for m in (0, 1)]


def kill_at_random(tmp_path, workers, kills, seed):
    chance = random.Random(seed)
    for _ in range(kills):
        process = start(tmp_path, "killed", workers)
        process.stdout.readline()  # training has begun (or was already over)
        time.sleep(chance.random() * 0.8)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    finish(start(tmp_path, "killed", workers))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The digests of a training that is left alone."""
    folder = tmp_path_factory.mktemp("whole")
    finish(start(folder, "whole", 1))
    return digests(folder / "whole")


@pytest.mark.parametrize(
    ("workers", "kills"),
    [
        pytest.param(2, 1, marks=pytest.mark.slow),
        pytest.param(1, 20, marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
    ],
)
def test_kill_9_changes_nothing(tmp_path, whole, workers, kills):
    kill_at_random(tmp_path, workers, kills, seed=kills)
    assert digests(tmp_path / "killed") == whole
    rows = (tmp_path / "killed" / "training.jsonl").read_text().splitlines()
    assert len(rows) == 2 * EPOCHS
    assert not list((tmp_path / "killed").rglob(".*"))


def test_a_worker_that_is_killed_is_named_and_the_other_is_kept(tmp_path):
    script = tmp_path / "script.py"
    kill_own_worker = SCRIPT.replace(
        "watch=lambda event: print(flush=True)", "watch=kill_member_1"
    ).replace(
        'if __name__ == "__main__":',
        "import multiprocessing, os, signal\n\n"
        "def kill_member_1(event):\n"
        "    for child in multiprocessing.active_children():\n"
        "        if child.name == 'member-1' and event.members == (1,):\n"
        "            os.kill(child.pid, signal.SIGKILL)\n\n"
        'if __name__ == "__main__":',
    )
    script.write_text(kill_own_worker.replace("{epochs}", "40"))
    result = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "out"), "2"],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert "TrainingError: member 1: its process ended with signal 9" in result.stderr
    assert (tmp_path / "out" / "weights" / "member-0.safetensors").is_file()
    assert not (tmp_path / "out" / "weights" / "member-1.safetensors").exists()
