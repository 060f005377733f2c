"""The gate of rechecked bounds, in part; `benchmarks/outward_gate.py` runs ten thousand trials."""

from __future__ import annotations

import pytest
from bounds_gate import EVERY, trial
from bounds_nets import CASES

ROUNDS = 6


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: CASES[number])
def test_rechecked_bounds_contain_the_true_value(number: int) -> None:
    found = [trial(number + len(CASES) * turn) for turn in range(ROUNDS)]
    assert [one for one in found if one.wrong] == []
    assert sum(one.bounds for one in found) > 0


def test_trials_follow_from_their_number_and_compare_something() -> None:
    first, again = trial(EVERY * len(CASES)), trial(EVERY * len(CASES))
    assert first == again
    assert first.case == CASES[0]
    assert first.wrong == 0
    assert first.bounds > 100
