"""What every classifier of a run needs next for an image, or what its votes prove."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from phalanx.errors import ParameterError
from phalanx.evaluation.config import CertifyConfig
from phalanx.runtime.keys import uniform_draw
from phalanx.smoothing.after_smoothing import AfterSmoothing
from phalanx.smoothing.charge import FREE, Charge
from phalanx.smoothing.classifiers import AFTER_SMOOTHING, BaseClassifier
from phalanx.smoothing.radii import GAUSSIAN_RULE
from phalanx.smoothing.stopping import Chunk, Evidence, StoppingRule, Votes, about


@dataclass(frozen=True)
class Decisions:
    """The stopping rules of a run.

    Args:
        config: of the run.
        classifiers: of the run, in its order.
        charge: what the arithmetic takes off bounds and radii.

    Raises:
        ParameterError: one of them cannot be certified under this configuration.
    """

    config: CertifyConfig
    classifiers: Sequence[BaseClassifier]
    charge: Charge = FREE

    def __post_init__(self) -> None:
        after = [classifier for classifier in self.classifiers if classifier.after]
        if not after:
            return
        config = self.config
        if config.rule_of_radius != GAUSSIAN_RULE or config.shares or config.top > 1:
            raise ParameterError(
                f"{AFTER_SMOOTHING} needs signed radii, which only {GAUSSIAN_RULE} gives",
                repair=f"--set certificate={GAUSSIAN_RULE}, no share for another bound, no top",
            )
        self._shared(None)

    @cached_property
    def voters(self) -> list[BaseClassifier]:
        """The classifiers that have votes of their own."""
        return [classifier for classifier in self.classifiers if not classifier.after]

    @cached_property
    def _members(self) -> dict[int, int]:
        """The place among the voters of each member alone."""
        alone = enumerate(self.voters)
        return {c.members[0]: place for place, c in alone if len(c.members) == 1}

    def drawn(self, image: int) -> float | None:
        """The number a randomised bound draws for an image; None where the bound is not one."""
        return uniform_draw(self.config.seed, image, "bound") if self.config.draws else None

    def decide(
        self, image: int, votes: Sequence[Votes], label: int | None = None
    ) -> list[list[Chunk] | Evidence]:
        """For every classifier, chunks that it needs or what is proven.

        Args:
            image: its index.
            votes: of every voter.
            label: the image's, known before any vote. It is the class that a certificate of the
                k > 1 most likely speaks of; elsewhere, and without one, selection votes say.
        """
        if self.config.top > 1 and label is not None:
            votes = [about(label, found) for found in votes]
        drawn = self.drawn(image)
        own = self._own if drawn is None else self.config.stopping(self.charge, drawn)
        of_voter = iter(votes)
        found: list[list[Chunk] | Evidence] = []
        for classifier in self.classifiers:
            if classifier.after:
                members = [votes[self._members[member]] for member in classifier.members]
                found.append(self._shared(drawn).decide(members))
            else:
                found.append(own.decide(next(of_voter)))
        return found

    @cached_property
    def _own(self) -> StoppingRule:
        return self.config.stopping(self.charge)

    def _shared(self, drawn: float | None) -> AfterSmoothing:
        """The rule of an ensemble after smoothing."""
        return self._after if drawn is None else self._of_members(drawn)

    @cached_property
    def _after(self) -> AfterSmoothing:
        return self._of_members(None)

    def _of_members(self, drawn: float | None) -> AfterSmoothing:
        return AfterSmoothing(self._share.stopping(self.charge, drawn), self.charge)

    @cached_property
    def _share(self) -> CertifyConfig:
        """The configuration of each member: it gets an equal part of alpha."""
        return replace(self.config, alpha=self.config.alpha / len(self._members))
