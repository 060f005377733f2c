"""Signs that gradients mislead, so that attacks which follow them find too little.

Each is known from defences that were broken later (Athalye et al., ICML 2018; Carlini et al.,
arXiv 1902.06705): attacks without gradients find more, one step finds more than many, restarts
keep finding, accuracy stays up in a ball that holds everything, gradients vanish.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from phalanx.attacks.siege import LEAST
from phalanx.audit.measures import Answers, Bools, Floats
from phalanx.audit.protocols import PUBLISHED, WHOLE, Kind, Protocol

SHARE = 0.02
"""Of the images: what several points of noise in a search may do without an alarm."""


@dataclass(frozen=True)
class Check:
    """One sign.

    Attributes:
        name: what was looked for.
        value: a share of images, or a difference of accuracies; larger is more suspicious.
        limit: above it there is an alarm.
        means: what an alarm says.
    """

    name: str
    value: float
    limit: float
    means: str

    @property
    def alarm(self) -> bool:
        """Whether it was found."""
        return self.value > self.limit

    def as_json(self) -> dict[str, object]:
        """JSON values."""
        return {
            "name": self.name,
            "value": self.value,
            "limit": self.limit,
            "alarm": self.alarm,
            "means": self.means,
        }


def checks(answers: Answers, suite: Sequence[Protocol], flat: Floats) -> list[Check]:
    """Every sign that the attacks of a suite can show.

    Args:
        answers: on the inputs of every protocol, ``unbounded`` ones too.
        suite: what the protocols are.
        flat: for each image whether its gradient was zero at the image itself ``(B,)``.
    """

    def lowest(kind: Kind) -> Floats:
        found = [answers.scored(protocol.name) for protocol in suite if protocol.kind == kind]
        return np.asarray(np.min(found, axis=0))

    gradient = lowest("gradient")
    return [
        Check(
            "scores find what gradients miss",
            _share(lowest("scores") < gradient - LEAST),
            SHARE,
            "gradients are masked: attack scores, or declare a backward",
        ),
        Check(
            "other classifiers' attacks find what its own gradients miss",
            _share(lowest("transfer") < gradient - LEAST),
            SHARE,
            "the members hide each other's gradients: attack them one by one",
        ),
        Check(
            "one step finds what ten miss",
            _share(lowest("one-step") < answers.scored("pgd-10") - LEAST),
            SHARE,
            "the loss is rugged: smaller steps and more restarts",
        ),
        Check(
            "restarts keep finding",
            float((answers.scored(WHOLE) - lowest("restarts")).mean()),
            SHARE,
            "the search ends in poor maxima: more restarts",
        ),
        Check(
            "accuracy is left where everything is allowed",
            float(lowest("unbounded").mean()),
            SHARE,
            "an attack that may do anything must reach 0: the search is broken",
        ),
        Check(
            "gradients are zero at the image",
            float(flat.mean()),
            SHARE,
            "there is nothing to follow: another objective (margin, dlr), or scores",
        ),
        Check(
            "the published protocol flatters",
            float((answers.scored(PUBLISHED) - answers.scored("pgd-10")).mean()),
            SHARE,
            "the same attack with the exact mean gradient finds more: attack the mean",
        ),
    ]


def _share(images: Bools) -> float:
    return float(images.mean())
