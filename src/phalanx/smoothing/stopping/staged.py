"""A few stages of growing size, each with fresh samples (Horvath et al., ICLR 2022, section 5).

A stage selects a class and bounds its probability as if it were alone, at its share of alpha;
nothing is pooled. Where a target is neither shown nor, at its share of beta, out of reach, the
next stage begins anew.
"""

from __future__ import annotations

from dataclasses import dataclass

from phalanx.runs.schema import ESTIMATION, SELECTION
from phalanx.smoothing.stopping import (
    Chunk,
    Evidence,
    Setting,
    Votes,
    cut,
    fixed_evidence,
    missing,
    rules,
    tally,
)


@rules.register("staged")
@dataclass(frozen=True)
class Staged:
    """Stages of ``stages`` samples, the last of ``n``; published as 1,000, 10,000, 125,000."""

    setting: Setting

    def __post_init__(self) -> None:
        self.setting.require_targets("staged")
        self.setting.require_two_classes("staged")

    def decide(self, votes: Votes) -> list[Chunk] | Evidence:
        """The chunks of the stage that is being sampled, or what the last one sampled proves."""
        s, sizes = self.setting, (*self.setting.stages, self.setting.n)
        before = broken = 0
        for stage, size in enumerate(sizes):
            selection = list(cut(stage_phase(SELECTION, stage), s.n0, s.chunk))
            estimation = list(cut(stage_phase(ESTIMATION, stage), size, s.chunk))
            if missing(votes, chunks := [*selection, *estimation]):
                return chunks
            counts = tally(votes, selection), tally(votes, estimation)
            found = fixed_evidence(*counts, s.bound, s.alpha / len(sizes))
            before, broken = before + found.samples, broken + found.broken
            if broken or stage == len(sizes) - 1 or self._decided(found, len(sizes)):
                break
        return found._replace(samples=before, broken=broken)

    def most(self) -> float:
        """The bound of n votes out of n in the last stage."""
        s = self.setting
        return s.bound.lower(s.n, s.n, s.alpha / (len(s.stages) + 1))

    def samples(self) -> int:
        """Selection and estimation of every stage."""
        s = self.setting
        return sum(s.n0 + size for size in (*s.stages, s.n))

    def _decided(self, found: Evidence, stages: int) -> bool:
        s = self.setting
        upper = s.bound.upper(found.n_a, found.n, s.beta / (stages - 1))
        return all(found.p_lower >= target or upper < target for target in s.targets)


def stage_phase(phase: str, stage: int) -> str:
    """The name of a stage's phase, which is part of its noise keys.

    >>> stage_phase("estimation", 0), stage_phase("estimation", 2)
    ('estimation', 'estimation-2')
    """
    return f"{phase}-{stage}" if stage else phase
