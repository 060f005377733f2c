"""kill -9 of everything, of one worker, of the command alone: nothing lost, nothing doubled."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import kill_resume
import pytest

SLOW = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> kill_resume.Job:
    """A certification that was left alone, by one process."""
    job = kill_resume.certification(tmp_path_factory.mktemp("whole"), workers=1)
    return kill_resume.undisturbed(job)


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=SLOW)])
def test_a_certification_killed_at_random_moments(kills, alone, tmp_path):
    is_unharmed(kill_resume.kill_and_resume(kill_resume.certification(tmp_path), kills, alone))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_training_killed_at_random_moments(tmp_path):
    job = kill_resume.training(tmp_path)
    is_unharmed(kill_resume.kill_and_resume(job, 20, kill_resume.undisturbed(job)))


@pytest.fixture(scope="module")
def attacked(tmp_path_factory) -> kill_resume.Job:
    """An attack that was left alone."""
    job = kill_resume.undisturbed(kill_resume.attack(tmp_path_factory.mktemp("attacked")))
    rows = job.rows(job.out)
    assert any(isinstance(row[-1], bytes) for row in rows), "no input was broken"
    return job


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kills", [2, 20])
def test_an_attack_killed_at_random_moments(kills, attacked, tmp_path):
    is_unharmed(kill_resume.kill_and_resume(kill_resume.attack(tmp_path), kills, attacked))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_attacks_share_a_folder(attacked, tmp_path):
    """What one leaves when it is killed, the other takes up."""
    job = kill_resume.attack(tmp_path)
    both = [job.start(), job.start()]
    wait_for(lambda: len(job.rows(job.out)) > 20)
    both[0].kill()
    both[0].wait()
    assert both[1].wait() == 0, job.log.read_text()
    third = job.start()
    assert third.wait() == 0, job.log.read_text()
    assert job.digest(job.out) == attacked.digest(attacked.out)
    assert job.rows(job.out) == attacked.rows(attacked.out)


def is_unharmed(outcome: kill_resume.Outcome) -> None:
    assert (outcome.lost, outcome.doubled, outcome.same_digest) == (0, 0, True)
    assert max(outcome.rows_at_each_kill) > 0


def children(pid: int) -> list[int]:
    """Processes that ``pid`` started (Linux)."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


def wait_for(condition) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds workers through /proc")
def test_one_worker_is_killed_and_the_other_ends_the_run(tmp_path, alone):
    job = kill_resume.certification(tmp_path)
    process = job.start()
    wait_for(lambda: len(job.rows(job.out)) > 50)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    assert process.wait(timeout=120) == 0
    assert job.digest(job.out) == alone.digest(alone.out)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds workers through /proc")
def test_the_command_alone_is_killed_and_given_again(tmp_path, alone):
    """Its workers go on beside those of the second command; they share what is left."""
    job = kill_resume.certification(tmp_path)
    process = job.start()
    wait_for(lambda: len(job.rows(job.out)) > 50)
    workers = children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(workers) == 2
    assert job.finish() == alone.digest(alone.out)
    wait_for(lambda: not any(map(is_running, workers)))
    assert job.digest(job.out) == alone.digest(alone.out)


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX"
