"""How many samples an input gets, and what may be concluded from them; one file a rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple, Protocol

from phalanx.errors import ParameterError
from phalanx.registry import Registry
from phalanx.runs.schema import INVALID, SELECTION, Counts
from phalanx.smoothing.confidence import Bound

Votes = Mapping[str, Sequence[Counts]]
"""The votes of one classifier for one input: by phase, those of its chunks 0, 1, ... in order."""


class Chunk(NamedTuple):
    """One keyed piece of sampling: the unit of work, of commit and of noise."""

    phase: str
    index: int  # type: ignore[assignment]  # it hides tuple.index, which nobody needs
    rows: int


class SecondVotes(NamedTuple):
    """What votes under a second, narrower law of noise prove of the class of an `Evidence`.

    Attributes:
        hits, n: votes for it, of so many samples.
        lower: a lower bound on its probability under that law; with probability at least
            1 - alpha it holds together with ``p_lower``.
    """

    hits: int
    n: int
    lower: float


class Evidence(NamedTuple):
    """What the votes of one classifier for one input prove.

    Attributes:
        label: the class with most selection votes.
        n_a, n: its votes among the samples the bound was computed from.
        p_lower: with probability at least 1 - alpha, a lower bound on that class's probability.
        broken: votes that were not finite, of all that were looked at; any is an error.
        samples: how many were looked at.
        others: with the same confidence, upper bounds on other classes' probabilities, where they
            were bounded. At place t - 1, for t up to the number of classes that may be ahead: of
            any so many others, some t have together no more. Else they have ``1 - p_lower``.
        second: of a second law, where samples of one were drawn.
    """

    label: int
    n_a: int
    n: int
    p_lower: float
    broken: int
    samples: int
    others: tuple[float, ...] = ()
    second: SecondVotes | None = None


@dataclass(frozen=True)
class Setting:
    """What a rule is told; each reads what concerns it.

    Attributes:
        n: the most estimation samples of an input.
        n0: selection samples.
        chunk: the most rows of a chunk.
        alpha: probability that a conclusion may be wrong.
        bound: for a number of samples that was fixed in advance.
        targets: probabilities in (0, 1), increasing, each of which is to be shown or given up.
        radius: from a bound on the probability to a radius.
        probability: the smallest bound that gives a radius.
        beta: probability that an input which could be certified is given up early.
        reserve: share of alpha kept for a last bound at n.
        fraction: of what could still be reached that is good enough.
        stages: samples of each stage but the last, which has n.
        runner_up: share of alpha for upper bounds on the other classes; 0: two-class bound.
        classes: how many there are.
        top: the class stays among so many most likely ones.
    """

    n: int
    n0: int
    chunk: int
    alpha: float
    bound: Bound
    targets: tuple[float, ...] = ()
    radius: Callable[[float], float] = float
    probability: Callable[[float], float] = float
    beta: float = 1e-4
    reserve: float = 0.5
    fraction: float = 0.9
    stages: tuple[int, ...] = ()
    runner_up: float = 0.0
    classes: int = 2
    top: int = 1

    def require_targets(self, rule: str) -> None:
        """Refuse a rule that decides given radii where none is given."""
        if not self.targets:
            raise ParameterError(
                f"the stopping rule {rule!r} decides given radii, and none is given",
                repair="--radius 0.5, several times if you like",
            )

    def require_two_classes(self, rule: str) -> None:
        """Refuse a rule that decides by one class's probability where others are bounded too."""
        if self.runner_up:
            raise ParameterError(
                f"the stopping rule {rule!r} does not bound the runner-up",
                repair="--stop fixed, or no share for the runner-up",
            )


class StoppingRule(Protocol):
    """Says, of one classifier's votes for one input, what to sample next or what is proven.

    The level must hold for the number of samples it ends with. A conclusion depends on the
    chunks up to the one at which the rule ends and on nothing behind it, because others who
    share the noise may need more.
    """

    def decide(self, votes: Votes) -> list[Chunk] | Evidence:
        """Chunks that are needed (those already counted may be among them), or a conclusion."""
        ...

    def most(self) -> float:
        """The largest ``p_lower`` it can conclude: what unanimous votes give."""
        ...

    def samples(self) -> int:
        """The most samples an input can get, selection included."""
        ...


RuleFactory = Callable[[Setting], StoppingRule]

rules: Registry[RuleFactory] = Registry(
    "stopping", "phalanx.smoothing.stopping", noun="stopping rule"
)


def cut(phase: str, total: int, chunk: int) -> Iterator[Chunk]:
    """``total`` samples of a phase in chunks of ``chunk`` rows; the last may be shorter.

    >>> [c.rows for c in cut("estimation", 2500, 1000)]
    [1000, 1000, 500]
    """
    for index, start in enumerate(range(0, total, chunk)):
        yield Chunk(phase, index, min(chunk, total - start))


def missing(votes: Votes, chunks: Sequence[Chunk]) -> bool:
    """Whether some of a phase's chunks, from the first on, have not been counted."""
    return any(chunk.index >= len(votes.get(chunk.phase, ())) for chunk in chunks)


def tally(votes: Votes, chunks: Iterable[Chunk]) -> Counts:
    """Votes in these chunks, together.

    >>> tally({"estimation": [{3: 5}, {3: 1, 0: 2}, {3: 9}]}, cut("estimation", 8, 5))
    Counter({3: 6, 0: 2})
    """
    together: Counter[int] = Counter()
    for chunk in chunks:
        together.update(votes[chunk.phase][chunk.index])
    return together


def selected(selection: Counts) -> int:
    """The class with most selection votes; ties go to the lowest index.

    Where no vote was finite it is 0, and the evidence is broken.
    """
    votes = {c: v for c, v in selection.items() if c != INVALID}
    return min(votes, key=lambda c: (-votes[c], c), default=0)


def all_for(label: int, selection: Counts) -> Counts:
    """Selection votes, every one that is finite given to one class."""
    broken = selection.get(INVALID, 0)
    return {label: sum(selection.values()) - broken, INVALID: broken}


def about(label: int, votes: Votes) -> Votes:
    """The votes, with those that select a class given to one that was fixed before them.

    >>> about(7, {"selection": [{0: 9, 1: 1}], "estimation": [{0: 5}]})
    {'selection': [{7: 10, -1: 0}], 'estimation': [{0: 5}]}
    """
    found = dict(votes)
    for phase in votes:
        if phase.startswith(SELECTION):
            found[phase] = [all_for(label, chunk) for chunk in votes[phase]]
    return found


def fixed_evidence(
    selection: Counts,
    estimation: Counts,
    bound: Bound,
    alpha: float,
    *,
    runner_up: float = 0.0,
    classes: int = 2,
    top: int = 1,
) -> Evidence:
    """What n votes prove, n having been fixed before the first of them (Cohen et al. 2019).

    Args:
        selection: votes that choose the class.
        estimation: votes of n fresh samples.
        runner_up: share of alpha, in [0, 1), for upper bounds on the other ``classes - 1``.
        top: how many of these are bounded together at most.
    """
    label, n = selected(selection), sum(estimation.values())
    broken = selection.get(INVALID, 0) + estimation.get(INVALID, 0)
    n_a = estimation.get(label, 0)
    p_lower = bound.lower(n_a, n, alpha * (1 - runner_up))
    others: tuple[float, ...] = ()
    if runner_up:
        # Each of them may be wrong with its part.
        share = alpha * runner_up / max(classes - 1, 1)
        votes = [v for c, v in estimation.items() if c not in {label, INVALID}]
        largest = sorted([*votes, *[0] * top])[-top:]  # without votes a class has a bound as well
        others = _together([bound.upper(v, n, share) for v in largest], p_lower)
    return Evidence(label, n_a, n, p_lower, broken, n + sum(selection.values()), others)


def unanimous(rule: StoppingRule, setting: Setting) -> Evidence:
    """The best that a rule can conclude: n votes, all for the class."""
    s, p_lower = setting, rule.most()
    others: tuple[float, ...] = ()
    if s.runner_up:
        share = s.alpha * s.runner_up / max(s.classes - 1, 1)
        others = _together([s.bound.upper(0, s.n, share)] * s.top, p_lower)
    return Evidence(0, s.n, s.n, p_lower, 0, rule.samples(), others)


def _together(bounds: Sequence[float], p_lower: float) -> tuple[float, ...]:
    """Of the bounds of the largest counts, in rising order, the sums of the first t.

    Of any so many other classes, the t with the smallest bounds have together no more. All
    others together have what the class leaves.
    """
    return tuple(min(total, 1 - p_lower) for total in accumulate(bounds))
