"""The number of threads is found on the passes themselves, tried again, and restored."""

from __future__ import annotations

import pytest
import torch

from phalanx.smoothing import threads
from phalanx.smoothing.threads import AGAIN_SECONDS, PASSES, ThreadTrials

CPU = torch.device("cpu")


class Machine:
    """A clock, and how long a pass takes with each number of threads."""

    def __init__(self, seconds: dict[int, float]) -> None:
        self.seconds, self.threads, self.now = seconds, max(seconds), 0.0

    def run(self, trials: ThreadTrials, passes: int) -> None:
        for _ in range(passes):
            self.now += self.seconds[self.threads]
            trials.passed()


@pytest.fixture
def machine(monkeypatch):
    one = Machine({4: 1.0, 1: 1.0})
    monkeypatch.setattr(torch, "get_num_threads", lambda: one.threads)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: setattr(one, "threads", count))
    monkeypatch.setattr(threads.time, "perf_counter", lambda: one.now)
    return one


@pytest.mark.parametrize(("seconds", "chosen"), [({4: 2.0, 1: 3.0}, 4), ({4: 2.0, 1: 1.0}, 1)])
def test_the_faster_number_is_kept_and_what_was_set_restored(machine, seconds, chosen):
    machine.seconds = seconds
    with ThreadTrials(CPU) as trials:
        machine.run(trials, 2 * PASSES)
        assert machine.threads == chosen
        machine.run(trials, 3)
        assert machine.threads == chosen
    assert machine.threads == 4


def test_a_first_pass_that_prepares_things_is_not_timed(machine):
    machine.seconds = {4: 1.0, 1: 2.0}
    with ThreadTrials(CPU) as trials:
        machine.now += 1000.0
        machine.run(trials, 2 * PASSES)
        assert machine.threads == 4


def test_a_machine_that_changed_is_tried_again(machine):
    machine.seconds = {4: 1.0, 1: 2.0}
    with ThreadTrials(CPU) as trials:
        machine.run(trials, 2 * PASSES)
        assert machine.threads == 4
        machine.seconds = {4: 5.0, 1: 2.0}
        machine.run(trials, int(AGAIN_SECONDS / 5.0) + 2 + 2 * PASSES)
        assert machine.threads == 1


@pytest.mark.parametrize("device", ["cuda", "meta"])
def test_another_device_is_left_alone(machine, device):
    machine.seconds = {4: 2.0, 1: 1.0}
    with ThreadTrials(torch.device(device)) as trials:
        machine.run(trials, 2 * PASSES)
        assert machine.threads == 4
