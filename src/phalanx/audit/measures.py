"""From who is right on which inputs to what a random ensemble is worth.

A random ensemble that draws one member has an exact expected accuracy at an input: the
probability of the members that are right there. It is never sampled. An input found against one
classifier is as good against another, so every figure is a worst case over *all* inputs found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phalanx.errors import ParameterError
from phalanx.runs.statistics import Interval, bootstrap_mean, paired_difference

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
CLEAN = "clean"


@dataclass(frozen=True)
class Answers:
    """Who is right on the inputs that each protocol ended with.

    Attributes:
        protocols: P names; the first is `CLEAN`, the images as they are.
        right: ``(P, M, B)``: each member.
        averaged: ``(P, B)``: the same members under a reducer, together.
        probabilities: of each member ``(M,)``, summing to 1.
    """

    protocols: tuple[str, ...]
    right: Bools
    averaged: Bools
    probabilities: Floats

    def __post_init__(self) -> None:
        count = len(self.protocols)
        fits = self.right.ndim == 3 and self.right.shape[0] == count
        if not fits or self.averaged.shape != (count, self.right.shape[2]):
            raise ParameterError(
                f"answers of shapes {self.right.shape} and {self.averaged.shape}"
                f" for {count} protocols"
            )
        if not self.protocols or self.protocols[0] != CLEAN:
            raise ParameterError("the first protocol is not the clean images")
        if len(self.probabilities) != self.right.shape[1]:
            raise ParameterError(
                f"{len(self.probabilities)} probabilities for {self.right.shape[1]} members"
            )

    def expected(self, protocols: Sequence[str] | None = None) -> Floats:
        """The lowest probability of a right answer over some protocols (None: all): ``(B,)``.

        The clean images are always among them: an adversary may leave an image alone.
        """
        return (self.probabilities @ self.right[self._at(protocols)].astype(float)).min(0)

    def scored(self, protocol: str) -> Floats:
        """The probability of a right answer on the inputs of one protocol, as it left them."""
        shares: Floats = self.probabilities @ self.right[self._at([protocol])[-1]].astype(float)
        return shares

    def every(self) -> Bools:
        """No input was found that some member is wrong on: who may ask again finds him."""
        return np.asarray(self.right.all((0, 1)))

    def some(self) -> Bools:
        """On every input that was found some member is right."""
        return np.asarray(self.right.any(1).all(0))

    def together(self, protocols: Sequence[str] | None = None) -> Bools:
        """The averaged members are right on all inputs of some protocols (None: all)."""
        return np.asarray(self.averaged[self._at(protocols)].all(0))

    def alone(self) -> Bools:
        """Each member is right on all inputs that were found: ``(M, B)``."""
        return np.asarray(self.right.all(0))

    def transfer(self, protocols: Sequence[str]) -> Floats:
        """Of the images that an attack on member i took from it, the share that it took from j.

        Args:
            protocols: one for each member: attacks on it alone.

        Returns:
            ``(M, M)``, over images that both were right on, 1 on the diagonal; NaN where there is
            none.
        """
        members = self.right.shape[1]
        if len(protocols) != members:
            raise ParameterError(f"{len(protocols)} attacks on single members, not {members}")
        table = np.full((members, members), np.nan)
        for i, name in enumerate(protocols):
            after = self.right[self._at([name])[-1]]
            for j in range(members):
                taken = self.right[0, i] & self.right[0, j] & ~after[i]
                if taken.any():
                    table[i, j] = (~after[j])[taken].mean()
        return table

    def _at(self, protocols: Sequence[str] | None) -> list[int]:
        if protocols is None:
            return list(range(len(self.protocols)))
        unknown = [name for name in protocols if name not in self.protocols]
        if unknown:
            raise ParameterError(f"nothing was found by {', '.join(unknown)}")
        return [0, *(self.protocols.index(name) for name in protocols if name != CLEAN)]


@dataclass(frozen=True)
class Figure:
    """A share of images, with its 95% bootstrap interval over images."""

    value: float
    interval: Interval

    @classmethod
    def of(cls, values: ArrayLike) -> Figure:
        """The mean over images of numbers between 0 and 1."""
        numbers = np.asarray(values, dtype=np.float64)
        return cls(float(numbers.mean()), bootstrap_mean(numbers))

    @classmethod
    def difference(cls, values: ArrayLike, others: ArrayLike) -> Figure:
        """The mean of the first minus that of the second, paired over images."""
        one, other = (np.asarray(side, dtype=np.float64) for side in (values, others))
        return cls(*paired_difference(one, other))

    def as_json(self) -> dict[str, object]:
        """JSON values."""
        return {"value": self.value, "interval": list(self.interval)}


def figures(answers: Answers, published: Sequence[str]) -> dict[str, Figure]:
    """What the audit reports, by name.

    Args:
        answers: see `Answers`.
        published: the protocols that attack the module that draws, and score one fresh draw: on
            average the expected accuracy of what they found. The lowest of them counts.

    ``alone`` is the best member's own worst case; ``published - worst`` and ``averaged - worst``
    are paired differences.
    """
    worst, together = answers.expected(), answers.together()
    style = min((answers.scored(name) for name in published), key=lambda one: float(one.mean()))
    alone = answers.alone()
    return {
        "clean, expected": Figure.of(answers.scored(CLEAN)),
        "clean, averaged": Figure.of(answers.together([CLEAN])),
        "published style": Figure.of(style),
        "worst case, expected": Figure.of(worst),
        "worst case, every member right": Figure.of(answers.every()),
        "worst case, some member right": Figure.of(answers.some()),
        "worst case, averaged": Figure.of(together),
        "worst case, best member alone": Figure.of(alone[int(alone.mean(1).argmax())]),
        "published - worst": Figure.difference(style, worst),
        "averaged - worst": Figure.difference(together, worst),
    }
