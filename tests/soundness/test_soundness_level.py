"""The level of every stopping rule over many runs: how often a bound exceeds the truth.

Whatever an anytime rule makes of a path, it concludes no more than the best bound of any look and
the fixed-n bound of the reserved share at the last; how often *that* is wrong is counted here for
whole arrays of paths. A handful of paths go through the rules themselves, to see that it is so.
"""

from __future__ import annotations

import math

import checks_stopping as check
import numpy as np
import pytest

from phalanx.smoothing.confidence.clopper_pearson import ClopperPearson
from phalanx.smoothing.confidence.truncated_mixture import log_wealth
from phalanx.smoothing.stopping import Setting, rules
from phalanx.smoothing.stopping._looks import anytime_alpha, growing

ALPHA, SHORT, FULL, BLOCK = 0.01, 4_000, 200_000, 20_000
RUNS = [SHORT, pytest.param(FULL, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
TRUTHS = (0.5, 0.6, 0.7 - 1e-9, 0.9, 0.9 - 0.02, 0.99, 0.999)
BOUND = ClopperPearson()


def setting() -> Setting:
    return check.setting(alpha=ALPHA, n=3000, chunk=500, stages=(200, 800))


def limits(n: int, alpha: float) -> np.ndarray:
    """The lower bound of every count."""
    return np.array([BOUND.lower(hits, n, alpha) for hits in range(n + 1)])


def most(runs: int) -> float:
    return ALPHA * runs + 4 * math.sqrt(ALPHA * runs)


def anytime_failures(s: Setting, p: float, runs: int, seed: int) -> int:
    """Paths on which some look, or the last bound, goes beyond p."""
    rng = np.random.default_rng(seed)
    rows = np.array([chunk.rows for chunk in growing("estimation", s.n, s.chunk)])
    hits = rng.binomial(rows, p, (runs, len(rows))).cumsum(axis=1)
    rejected = log_wealth(hits, rows.cumsum(), p) >= -math.log(anytime_alpha(s))
    last = limits(s.n, s.alpha - anytime_alpha(s))[hits[:, -1]] > p
    return int((rejected.any(axis=1) | last).sum())


def staged_failures(s: Setting, p: float, runs: int, seed: int) -> int:
    """Runs of which some stage's bound goes beyond p, whether it came to that stage or not."""
    rng = np.random.default_rng(seed)
    sizes = (*s.stages, s.n)
    wrong = np.zeros(runs, bool)
    for size in sizes:
        wrong |= limits(size, s.alpha / len(sizes))[rng.binomial(size, p, runs)] > p
    return int(wrong.sum())


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize("p", TRUTHS)
@pytest.mark.parametrize("failures", [anytime_failures, staged_failures])
def test_bounds_are_wrong_as_rarely_as_alpha_says(failures, p, runs):
    s = setting()
    parts = [(min(BLOCK, runs - done), done) for done in range(0, runs, BLOCK)]
    wrong = sum(failures(s, p, count, seed) for count, seed in parts)
    assert wrong <= most(runs)


@pytest.mark.parametrize("name", ["anytime", "anytime-radius"])
@pytest.mark.parametrize("p", [0.6, 0.9, 0.99])
def test_a_rule_concludes_no_more_than_its_path_supports(name, p):
    """With the truth set just below what a run concluded, the run counts as a failure."""
    s = setting()
    for seed in range(20):
        path: list[int] = []
        draw = check.drawing(p, seed)

        def kept(chunk, draw=draw, path=path):
            votes = draw(chunk)
            if chunk.phase == "estimation":
                path.append(votes[1])
            return votes

        found = check.run(rules.get(name), kept, s)
        if found.p_lower <= 0:
            continue
        rows = [chunk.rows for chunk in growing("estimation", s.n, s.chunk)][: len(path)]
        claimed = found.p_lower * (1 - 1e-9)
        wealth = log_wealth(np.cumsum(path), np.cumsum(rows), claimed)
        last = BOUND.lower(found.n_a, s.n, s.alpha - anytime_alpha(s)) if found.n == s.n else 0.0
        assert (wealth >= -math.log(anytime_alpha(s))).any() or last >= claimed
