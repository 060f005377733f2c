"""Outcomes carry a witness if and only if they falsify; clocks end."""

from __future__ import annotations

import math
import time

import pytest
import torch

from phalanx.errors import ParameterError
from phalanx.verdicts import Verdict
from phalanx.verify.outcome import TIMEOUT, Clock, Outcome


def test_a_falsified_outcome_has_a_witness_and_no_other_has_one() -> None:
    point = torch.zeros(2)
    assert Outcome(Verdict.FALSIFIED, "attack", witness=point).witness is point
    with pytest.raises(ParameterError, match="witness"):
        Outcome(Verdict.FALSIFIED, "attack")
    with pytest.raises(ParameterError, match="witness"):
        Outcome(Verdict.VERIFIED, "crown", witness=point)


def test_an_unknown_says_why_and_a_bound_is_a_number() -> None:
    assert Outcome(Verdict.UNKNOWN, TIMEOUT).lower is None
    with pytest.raises(ParameterError, match="reason"):
        Outcome(Verdict.UNKNOWN, "")
    with pytest.raises(ParameterError, match="NaN"):
        Outcome(Verdict.UNKNOWN, TIMEOUT, lower=math.nan)


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan])
def test_a_clock_needs_time(seconds: float) -> None:
    with pytest.raises(ParameterError):
        Clock(seconds)


def test_a_clock_counts_down_and_lends() -> None:
    clock = Clock(100.0)
    assert 99 < clock.left() <= 100
    assert not clock.expired()
    assert 9 < clock.share(0.1).left() <= 10
    gone = Clock(1e-9)
    assert gone.expired()
    assert gone.share(0.5).expired()
    assert Clock().left() == math.inf


def test_a_clock_has_expired_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = Clock(8.0)
    now[0] = 107.5
    assert not clock.expired()
    now[0] = 108.0
    assert clock.expired()
