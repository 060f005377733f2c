"""Which attacks an audit makes, and on what: the published style, and those that know better.

The published evaluation of a random ensemble attacks the module that draws a member for every
query and scores one fresh draw. Its gradients are those of single draws, so the attack aims at a
moving target and looks weak (Dbouk & Shanbhag, ICML 2022). The others ask for the exact mean over
members, go through one member after another, or use scores alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from phalanx.errors import ParameterError

RANDOM, DRAWN, AVERAGED = "random", "drawn", "averaged"
"""The members by their exact mean accuracy; one of them, drawn for every query; all together."""

Kind = Literal["published", "gradient", "restarts", "one-step", "transfer", "scores", "unbounded"]


@dataclass(frozen=True)
class Protocol:
    """An attack on one of the classifiers that members can make.

    Attributes:
        name: of the row.
        victim: `RANDOM`, `DRAWN`, `AVERAGED`, or the number of a member.
        attack: a registered attack.
        kind: ``unbounded`` is a check, not a threat: it does not enter a worst case.
        options: of the attack.
    """

    name: str
    victim: str | int
    attack: str
    kind: Kind
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Effort:
    """How hard the attacks try.

    Attributes:
        steps: gradients of an attack, and of one restart.
        queries: of the attack from scores.
        restarts: of the attack that is restarted.
    """

    steps: int
    queries: int
    restarts: int


EFFORTS = {
    "quick": Effort(steps=20, queries=300, restarts=3),
    "standard": Effort(steps=100, queries=5000, restarts=5),
}
PUBLISHED = "pgd-10 on the module that draws"
WHOLE = "apgd-ce"


def effort_of(name: str) -> Effort:
    """The effort called so.

    Raises:
        ParameterError: there is none.
    """
    if name not in EFFORTS:
        raise ParameterError(
            f"there is no effort {name!r}", repair=f"--effort {' or '.join(EFFORTS)}"
        )
    return EFFORTS[name]


def alone(member: int) -> str:
    """Name of the attack on one member alone."""
    return f"apgd-ce on member {member}"


def suite(members: int, effort: Effort) -> tuple[Protocol, ...]:
    """Every attack of an audit of so many members, cheapest first within its kind.

    >>> len(suite(3, EFFORTS["quick"])) - len(suite(2, EFFORTS["quick"]))
    1
    """
    steps = {"steps": effort.steps}
    ten = {"steps": 10}
    return (
        Protocol(PUBLISHED, DRAWN, "pgd", "published", ten),
        Protocol("apgd-ce on the module that draws", DRAWN, "apgd-ce", "published", steps),
        Protocol("fgsm", RANDOM, "fgsm", "one-step"),
        Protocol("pgd-10", RANDOM, "pgd", "gradient", ten),
        Protocol("pgd, expected loss", RANDOM, "pgd", "gradient", steps),
        Protocol(
            "pgd, expected margin", RANDOM, "pgd", "gradient", steps | {"objective": "margin"}
        ),
        Protocol(WHOLE, RANDOM, "apgd-ce", "gradient", steps),
        Protocol("apgd-dlr", RANDOM, "apgd-dlr", "gradient", steps),
        Protocol("arc", RANDOM, "arc", "gradient"),
        Protocol("greedy", RANDOM, "greedy", "gradient", steps),
        Protocol(
            "apgd-ce, restarted",
            RANDOM,
            "apgd-ce",
            "restarts",
            steps | {"restarts": effort.restarts},
        ),
        Protocol("through each member", RANDOM, "transfer", "transfer", steps),
        *(Protocol(alone(i), i, "apgd-ce", "transfer", steps) for i in range(members)),
        Protocol("apgd-ce on the average", AVERAGED, "apgd-ce", "transfer", steps),
        Protocol("apgd-t on the average", AVERAGED, "apgd-t", "transfer", steps),
        Protocol("square", RANDOM, "square", "scores", {"queries": effort.queries}),
        Protocol("pgd without a ball", RANDOM, "pgd", "unbounded", steps),
    )
