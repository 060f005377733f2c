"""Commands that are forked from a server end as they would anywhere."""

import os
import signal
import subprocess
import sys
import time

import pytest

from phalanx.cli.forks import run_command


def test_a_forked_command_has_the_exit_code_of_any_other(tmp_path, capfd):
    assert run_command(["list", "reducers"]) == 0
    assert run_command(["certify", str(tmp_path / "nothing")]) == 3
    assert run_command(["list", "reducers", "--nonsense"]) == 2
    told = capfd.readouterr()
    assert told.out == ""  # answers are dropped, messages are not


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no process groups")
@pytest.mark.parametrize("ignored", [False, True])
def test_a_command_ends_when_who_asked_for_it_is_killed(tmp_path, ignored):
    """Also a job in the background, which ignores interrupts."""
    words = ["train", "digits-plain", "--epochs", "1000000", "--out", str(tmp_path / "run")]
    code = f"from phalanx.cli.forks import run_command; run_command({words})"
    if ignored:
        code = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); {code}"
    asker = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    try:
        assert waited_for(lambda: any((tmp_path / "run").glob("*")))
        asker.kill()
        asker.wait()
        assert waited_for(lambda: not alive(asker.pid))
    finally:
        if alive(asker.pid):
            os.killpg(asker.pid, signal.SIGKILL)


def alive(group):
    """Whether any process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def waited_for(fact, seconds=60):
    """Whether it becomes true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if fact():
            return True
        time.sleep(0.1)
    return False
