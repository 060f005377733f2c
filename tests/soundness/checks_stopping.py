"""What every registered stopping rule must satisfy; each check takes a rule's factory.

Votes are drawn by the binomial law chunk by chunk, exactly as a rule asks for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from phalanx.runs.schema import Counts
from phalanx.smoothing.confidence import bounds
from phalanx.smoothing.stopping import Chunk, Evidence, RuleFactory, Setting

ALPHA, RUNS = 0.05, 300
TARGETS = (0.7, 0.9)
TRUTHS = (0.55, 0.7 - 1e-6, 0.9 - 1e-6, 0.99)
MOST_STEPS = 200


def setting(**other: object) -> Setting:
    """A small sweep: few samples, a large alpha, Gaussian radii at sigma 1."""
    normal = NormalDist()
    values: dict[str, object] = {
        "n": 1000,
        "n0": 20,
        "chunk": 250,
        "alpha": ALPHA,
        "bound": bounds.get("clopper-pearson"),
        "targets": TARGETS,
        "radius": lambda p: normal.inv_cdf(p) if p > 0.5 else 0.0,
        "probability": normal.cdf,
        "beta": 0.01,
        "stages": (100, 400),
    }
    return Setting(**{**values, **other})


def run(factory: RuleFactory, draw: Callable[[Chunk], Counts], s: Setting) -> Evidence:
    """What the rule concludes when it gets the chunks it asks for, and those alone."""
    rule, votes = factory(s), {}
    for _ in range(MOST_STEPS):
        decision = rule.decide(votes)
        if isinstance(decision, Evidence):
            return decision
        new = [c for c in decision if c.index >= len(votes.get(c.phase, ()))]
        assert new, "it asks for nothing that is missing, and concludes nothing"
        for chunk in sorted(new):
            assert chunk.index == len(votes.setdefault(chunk.phase, []))
            votes[chunk.phase].append(draw(chunk))
    raise AssertionError(f"no end after {MOST_STEPS} steps")


def drawing(p: float, seed: int) -> Callable[[Chunk], Counts]:
    """Votes for class 1 with probability p, else for class 0; class 1 is always selected."""
    generator = np.random.default_rng(seed)

    def draw(chunk: Chunk) -> Counts:
        if chunk.phase.startswith("selection"):
            return {1: chunk.rows}
        hits = int(generator.binomial(chunk.rows, p))
        return {1: hits, 0: chunk.rows - hits}

    return draw


def level(factory: RuleFactory) -> None:
    """The bound exceeds the truth with probability at most alpha, whenever the rule stopped."""
    for p in TRUTHS:
        found = [run(factory, drawing(p, seed), setting()) for seed in range(RUNS)]
        wrong = sum(evidence.p_lower > p for evidence in found)
        assert wrong <= ALPHA * RUNS + 4 * math.sqrt(ALPHA * RUNS), f"p={p}: {wrong} of {RUNS}"


def counts_are_those_it_saw(factory: RuleFactory) -> None:
    """n_A of n, label and samples are those of votes that were asked for, n at most that asked."""
    s = setting()
    for p in TRUTHS:
        asked: list[Chunk] = []
        draw = drawing(p, 7)

        def watched(chunk: Chunk, draw=draw, asked=asked) -> Counts:
            asked.append(chunk)
            return draw(chunk)

        found = run(factory, watched, s)
        assert found.label == 1
        assert found.broken == 0
        assert 0 <= found.n_a <= found.n <= s.n
        assert found.samples == sum(chunk.rows for chunk in asked)
        assert len(set(asked)) == len(asked)
        assert all(chunk.rows <= s.chunk for chunk in asked)


def what_comes_later_changes_nothing(factory: RuleFactory) -> None:
    """Further chunks, counted because others needed them, leave a conclusion as it is."""
    s = setting()
    for p in TRUTHS:
        draw, votes = drawing(p, 11), {}

        def kept(chunk: Chunk, draw=draw, votes=votes) -> Counts:
            votes.setdefault(chunk.phase, []).append(draw(chunk))
            return votes[chunk.phase][-1]

        found = run(factory, kept, s)
        wrong_class = {phase: [*parts, {0: 50}, {0: 50}] for phase, parts in votes.items()}
        assert factory(s).decide(wrong_class) == found


def broken_votes_are_never_lost(factory: RuleFactory) -> None:
    """One vote that is not finite, in any phase, is reported."""
    for phase in ("selection", "estimation"):

        def draw(chunk: Chunk, phase: str = phase) -> Counts:
            bad = int(chunk.phase == phase and chunk.index == 0)
            return {1: chunk.rows - bad, -1: bad}

        assert run(factory, draw, setting()).broken == 1


CHECKS: list[Callable[[RuleFactory], None]] = [
    level,
    counts_are_those_it_saw,
    what_comes_later_changes_nothing,
    broken_votes_are_never_lost,
]
